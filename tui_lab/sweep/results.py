"""What a sweep came to: its curves, the picture of them, means over seeds, and whether it shows what it must."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tui_lab.core import events as ev
from tui_lab.core.runs.sweep.folder import Plan, Row, Sweep, ranked, run_of
from tui_lab.core.runs.sweep.search_space import Values, label, short_names, written
from tui_lab.report.plotting import Curve, save_overlay
from tui_lab.util.errors import RunError

POINTS = 400
"""Points of a curve that are drawn, at most."""
DRAWN = 40
"""Curves in one picture, at most: the best ones."""
PICTURES = ("overlay.svg", "overlay.png")
SEED = "train.seed"


@dataclass(frozen=True)
class Verdict:
    """holds: None where a trial that it needs has not ended well."""

    holds: bool | None
    words: str


@dataclass(frozen=True)
class Group:
    """The trials of one point that differ in the seed alone."""

    values: Values
    rows: tuple[Row, ...]

    @property
    def found(self) -> list[float]:
        return [row.value for row in self.rows if row.state == "done" and row.value is not None]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.found) if self.found else None

    @property
    def deviation(self) -> float | None:
        """The sample's standard deviation."""
        return statistics.stdev(self.found) if len(self.found) > 1 else None


def groups(plan: Plan, rows: Sequence[Row]) -> list[Group]:
    """The points without their seeds, the best mean first."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(label(_without_seed(plan, row.values)), []).append(row)
    made = [Group(_without_seed(plan, rows[0].values), tuple(rows)) for rows in found.values()]
    sign = -1 if plan.rising else 1
    return sorted(made, key=lambda group: math.inf if group.mean is None else sign * group.mean)


def _without_seed(plan: Plan, values: Values) -> Values:
    return values if plan.seeds == 1 else {key: value for key, value in values.items() if key != SEED}


def curve(row: Row, what: str) -> Curve:
    """Steps and values of a trial's running train loss ("train_loss") or of its validation loss; maybe none."""
    run = run_of(row)
    try:
        events = run.downsampled().events() if run else []
    except RunError:
        events = []
    if what == "train_loss":
        points = [(event.step, event.loss_ema) for event in events if isinstance(event, ev.StepDone)]
    else:
        points = [(event.step, event.val_loss) for event in events if isinstance(event, ev.Evaluated)]
    stride = max(1, math.ceil(len(points) / POINTS))
    points = points[:-1][::stride] + points[-1:]
    return [float(step) for step, _ in points], [value for _, value in points]


def curve_kind(plan: Plan) -> str:
    """Which loss the picture shows: that of the metric, where there are evaluations to draw."""
    train = plan.base["train"]
    evaluations = train["steps"] // train["eval_every"] if train["eval_every"] else 0
    return "train_loss" if plan.metric == "train_loss" or evaluations < 3 else "val_loss"


def curves(plan: Plan, rows: Sequence[Row]) -> dict[str, Curve]:
    """A curve for each point that has one, over seeds the mean, in the order of the sweep."""
    what = curve_kind(plan)
    best = groups(plan, [row for row in rows if row.state != "waiting"])[:DRAWN]
    names = short_names(best[0].values) if best else {}
    found = {}
    for group in sorted(best, key=lambda group: group.rows[0].number):
        drawn = [one for row in group.rows if len((one := curve(row, what))[0])]
        if drawn:
            found[label(group.values, names) or "all"] = _mean(drawn)
    return found


def _mean(found: Sequence[Curve]) -> Curve:
    """The mean of curves at the steps that all of them have; the first one where there is none."""
    maps = [dict(zip(*one, strict=True)) for one in found]
    steps = sorted(set.intersection(*(set(one) for one in maps)))
    return (steps, [statistics.fmean(one[step] for one in maps) for step in steps]) if steps else found[0]


def save_pictures(sweep: Sweep, found: Mapping[str, Curve]) -> list[Path]:
    """The overlay as SVG and PNG in the sweep's folder. Raises OSError."""
    plan = sweep.plan
    kind = {"train_loss": "train loss, running mean (0.9)", "val_loss": "validation loss"}[curve_kind(plan)]
    of = f", mean of {plan.seeds} seeds" if plan.seeds > 1 else ""
    paths = [sweep.path / name for name in PICTURES]
    for path in paths:
        save_overlay(found, path, title=f"{Path(plan.name).stem}: {kind}{of}", y=f"{kind.partition(',')[0]} (nats)")
    return paths


def verdict(plan: Plan, rows: Sequence[Row]) -> Verdict | None:
    """Whether the sweep shows what its check asks for; None where it asks for nothing."""
    check = plan.check
    if check is None:
        return None
    name = check.key.rpartition(".")[2]
    found = {}
    for end in (check.best, check.worst):
        values = [row.value for row in rows if row.values.get(check.key) == end and row.state == "done"]
        known = [value for value in values if value is not None]
        if not known:
            return Verdict(None, f"undecided: no trial with {name} {written(end)} has ended well")
        found[end] = statistics.fmean(known)
    best, worst = found[check.best], found[check.worst]
    better = worst > best if plan.rising else worst < best
    told = f"{plan.metric.replace('_', ' ')} {worst:.4f} against {best:.4f}"
    learns = "learns better" if better else "does not learn better"
    sentence = f"{name} {written(check.worst)} {learns} than {written(check.best)}: {told}"
    why = f" ({check.why})" if check.why else ""
    return Verdict(not better, f"{'broken' if better else 'holds'}: {sentence}{why}")


def best_first(sweep: Sweep, rows: Sequence[Row]) -> list[Row]:
    return ranked(rows, rising=sweep.plan.rising)
