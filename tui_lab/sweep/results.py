"""Results of a sweep: curves, the picture of them, means over seeds, and the verdict of its check."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core import events as ev
from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.sweep.folder import Plan, Sweep, TrialRow, ranked, run_of
from tui_lab.core.runs.sweep.search_space import Values, label, short_names, written
from tui_lab.runs.figures import figure_text
from tui_lab.runs.plotting import Curve, save_overlay
from tui_lab.util.errors import RunError
from tui_lab.util.strict_json import dumps

MAX_POINTS = 400
"""Points of a drawn curve."""
MAX_CURVES = 40
"""Curves in one picture: the best ones."""
MIN_EVALUATIONS = 3
"""With fewer evaluations the picture shows the train loss."""
PICTURES = ("overlay.svg", "overlay.png")


@dataclass(frozen=True)
class SweepVerdict:
    """Whether the sweep shows what its check asks for. holds: None if a trial that it needs has not succeeded."""

    holds: bool | None
    text: str


@dataclass(frozen=True)
class Group:
    """The trials of one point, which differ only in their seed."""

    values: Values
    rows: tuple[TrialRow, ...]

    @property
    def metrics(self) -> list[float]:
        return [row.value for row in self.rows if row.state == "done" and row.value is not None]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.metrics) if self.metrics else None

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation."""
        return statistics.stdev(self.metrics) if len(self.metrics) > 1 else None


def groups(plan: Plan, rows: Sequence[TrialRow]) -> list[Group]:
    """Return the points without their seeds, the best mean first."""
    rows_by_label: dict[str, list[TrialRow]] = {}
    for row in rows:
        rows_by_label.setdefault(label(_without_seed(plan, row.values)), []).append(row)
    unsorted = [Group(_without_seed(plan, rows[0].values), tuple(rows)) for rows in rows_by_label.values()]
    sign = -1 if plan.rising else 1
    return sorted(unsorted, key=lambda group: math.inf if group.mean is None else sign * group.mean)


def _without_seed(plan: Plan, values: Values) -> Values:
    return values if plan.seeds == 1 else {key: value for key, value in values.items() if key != SEED}


def curve(row: TrialRow, kind: str) -> Curve:
    """Return steps and values of a trial's running train loss or validation loss; both are empty without events.

    kind: "train_loss" or "val_loss".
    """
    run = run_of(row)
    try:
        events = run.downsampled().events() if run else []
    except RunError:
        events = []
    if kind == "train_loss":
        points = [(event.step, event.loss_ema) for event in events if isinstance(event, ev.StepDone)]
    else:
        points = [(event.step, event.val_loss) for event in events if isinstance(event, ev.Evaluated)]
    stride = max(1, math.ceil(len(points) / MAX_POINTS))
    points = points[:-1][::stride] + points[-1:]
    return [float(step) for step, _ in points], [value for _, value in points]


def curve_kind(plan: Plan, rows: Sequence[TrialRow]) -> str:
    """Return which loss the picture shows: that of the metric, if there are enough evaluations to draw."""
    if plan.script is not None:
        is_evaluated = any(len(curve(row, "val_loss")[0]) >= MIN_EVALUATIONS for row in rows)
        return "val_loss" if plan.metric != "train_loss" and is_evaluated else "train_loss"
    train = plan.base["train"]
    evaluations = train["steps"] // train["eval_every"] if train["eval_every"] else 0
    return "train_loss" if plan.metric == "train_loss" or evaluations < MIN_EVALUATIONS else "val_loss"


def curves(plan: Plan, rows: Sequence[TrialRow], kind: str) -> dict[str, Curve]:
    """Return a curve of a kind for each point that has one, in the order of the sweep; over several seeds, the mean."""
    best = groups(plan, [row for row in rows if row.state != "waiting"])[:MAX_CURVES]
    names = short_names(best[0].values) if best else {}
    curve_by_label = {}
    for group in sorted(best, key=lambda group: group.rows[0].number):
        drawable = [one for row in group.rows if len((one := curve(row, kind))[0])]
        if drawable:
            curve_by_label[label(group.values, names) or "all"] = _mean(drawable)
    return curve_by_label


def _mean(several: Sequence[Curve]) -> Curve:
    """Return the mean of curves at the steps that all of them have; without such steps, the first curve."""
    by_step = [dict(zip(*one, strict=True)) for one in several]
    steps = sorted(set.intersection(*(set(one) for one in by_step)))
    if not steps:
        return several[0]
    return steps, [statistics.fmean(one[step] for one in by_step) for step in steps]


def save_pictures(sweep: Sweep, drawn: Mapping[str, Curve], kind: str) -> list[Path]:
    """Draw the curves of a kind as SVG and PNG into the sweep's folder. Raises OSError."""
    plan = sweep.plan
    kind = {"train_loss": "train loss, running mean (0.9)", "val_loss": "validation loss"}[kind]
    mean = f", mean of {plan.seeds} seeds" if plan.seeds > 1 else ""
    title = f"{Path(plan.name).stem}: {kind}{mean}"
    paths = [sweep.path / name for name in PICTURES]
    for path in paths:
        save_overlay(drawn, path, title=title, y=f"{kind.partition(',')[0]} (nats)")
    return paths


def without_effect(plan: Plan, rows: Sequence[TrialRow]) -> list[str]:
    """Return the keys of a script whose values all gave exactly the same losses: they probably do not arrive.

    Of a key, trials are compared that differ in nothing else. Draws differ in all keys at once: if their losses are the
    same all the same, no key has an effect.
    """
    if plan.script is None:
        return []
    done = [row for row in rows if row.state == "done" and row.summary]
    losses = {row.summary.train_loss for row in done if row.summary}
    if len(done) > 1 and len(losses) == 1:
        return [key for key in plan.over if len({dumps(row.values.get(key)) for row in done}) > 1]
    return [key for key in plan.over if _has_no_effect(key, done)]


def _has_no_effect(key: str, rows: Sequence[TrialRow]) -> bool:
    losses_by_rest: dict[str, list[float | None]] = {}
    for row in rows:
        rest = label({other: value for other, value in row.values.items() if other != key})
        losses_by_rest.setdefault(rest, []).append(row.summary.train_loss if row.summary else None)
    compared = [losses for losses in losses_by_rest.values() if len(losses) > 1]
    return bool(compared) and all(len(set(losses)) == 1 for losses in compared)


def verdict(plan: Plan, rows: Sequence[TrialRow]) -> SweepVerdict | None:
    """Compare the two ends that the plan's check names; None without a check."""
    check = plan.check
    if check is None:
        return None
    name = check.key.rpartition(".")[2]
    means = {}
    for end in (check.best, check.worst):
        values = [row.value for row in rows if row.values.get(check.key) == end and row.state == "done"]
        metrics = [value for value in values if value is not None]
        if not metrics:
            return SweepVerdict(None, f"undecided: no trial with {name} {written(end)} has succeeded")
        means[end] = statistics.fmean(metrics)
    best, worst = means[check.best], means[check.worst]
    worst_wins = worst > best if plan.rising else worst < best
    learns = "learns better" if worst_wins else "does not learn better"
    metric = plan.metric.replace("_", " ")
    losses = f"{metric} {figure_text(plan.metric, worst)} vs {figure_text(plan.metric, best)}"
    sentence = f"{name} {written(check.worst)} {learns} than {written(check.best)}: {losses}"
    why = f" ({check.why})" if check.why else ""
    return SweepVerdict(not worst_wins, f"{'broken' if worst_wins else 'holds'}: {sentence}{why}")


def best_first(sweep: Sweep, rows: Sequence[TrialRow]) -> list[TrialRow]:
    """Return the rows ranked by the sweep's metric."""
    return ranked(rows, rising=sweep.plan.rising)
