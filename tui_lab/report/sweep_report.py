"""The report on a sweep: its trials ranked, and their curves in one chart."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from tui_lab.core.config import script, settings
from tui_lab.core.config.script import RunConfig
from tui_lab.core.runs.sweep.folder import Sweep, TrialRow, run_of
from tui_lab.core.runs.sweep.search_space import label, written
from tui_lab.report.chart import Chart, overlay_chart
from tui_lab.report.render import SettingRow, render, settings_by_section
from tui_lab.report.report_data import environment
from tui_lab.runs.figures import figure_text
from tui_lab.runs.listing import CHOSEN
from tui_lab.runs.plotting import Curve
from tui_lab.sweep import results
from tui_lab.util.errors import ConfigError

METRICS = ("train_loss", "val_loss", "exact_match", "perplexity")


def metric_title(metric: str) -> str:
    """Return the title of a metric, such as "validation loss"."""
    return metric.replace("val_loss", "validation loss").replace("_", " ")


def sweep_report(sweep: Sweep) -> str:
    """Return the HTML page."""
    plan = sweep.plan
    rows = results.best_first(sweep, sweep.rows())
    columns = _metric_columns(plan.metric, rows)
    kind = results.curve_kind(plan, rows)
    curves = results.curves(plan, rows, kind)
    metric = metric_title(plan.metric)
    return render(
        "sweep.html",
        name=sweep.name,
        summary=_summary(sweep, rows),
        best=_best(sweep, rows),
        verdict=results.verdict(plan, rows),
        chart=_chart(curves, kind),
        caption=_caption(sweep, len(curves)),
        metric=metric,
        groups=_groups(sweep, rows),
        order=f"Sorted by {metric}, the {'largest' if plan.rising else 'smallest'} first.",
        keys=list(plan.over),
        titles=[*map(metric_title, columns), "steps", "seconds"],
        trials=[_trial(place, row, list(plan.over), columns) for place, row in enumerate(rows, 1)],
        failures=[
            (row.number, label(row.values), row.result.message) for row in rows if row.result and row.result.message
        ],
        plan=_plan(sweep),
        space=[(key, written(values)) for key, values in plan.over.items()],
        settings=_settings(sweep, rows),
        environment=environment(),
        created=time.strftime("%Y-%m-%d %H:%M"),
        path=sweep.path,
    )


def _summary(sweep: Sweep, rows: Sequence[TrialRow]) -> str:
    states = [row.state for row in rows]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(rows)} trials over {', '.join(sweep.plan.over)}: {counts}"


def _best(sweep: Sweep, rows: Sequence[TrialRow]) -> list[tuple[str, str]]:
    """Return the figures of the best trial, or none if no trial is done."""
    if not rows or rows[0].state != "done" or rows[0].value is None:
        return []
    best = rows[0]
    metric = sweep.plan.metric
    return [
        (f"best {metric_title(metric)}", figure_text(metric, best.value)),
        ("trial", str(best.number)),
        ("values", label(best.values)),
    ]


def _chart(curves: Mapping[str, Curve], kind: str) -> Chart | None:
    """Draw the curves of the sweep's own picture, in the colors of the page."""
    if not curves:
        return None
    series = {name: (tuple(xs), tuple(ys)) for name, (xs, ys) in curves.items()}
    return overlay_chart(series, label=f"{metric_title(kind)}, nats")


def _caption(sweep: Sweep, n_curves: int) -> str:
    sentences = []
    if n_curves == results.MAX_CURVES:
        sentences.append(f"The {results.MAX_CURVES} best.")
    if sweep.plan.seeds > 1:
        sentences.append(f"Means of {sweep.plan.seeds} seeds.")
    return " ".join(sentences)


def _groups(sweep: Sweep, rows: Sequence[TrialRow]) -> list[tuple[str, str, str, int]]:
    """Return each point with its mean and standard deviation over the seeds; none for a sweep of one seed."""
    metric = sweep.plan.metric
    if sweep.plan.seeds == 1:
        return []
    return [
        (
            label(group.values),
            figure_text(metric, group.mean),
            figure_text(metric, group.deviation),
            len(group.metrics),
        )
        for group in results.groups(sweep.plan, rows)
    ]


def _metric_columns(metric: str, rows: Sequence[TrialRow]) -> list[str]:
    """Return the sweep's metric and the other metrics that any trial has."""
    others = [key for key in METRICS if key != metric and any(_metric(row, key) is not None for row in rows)]
    return [metric, *others]


def _metric(row: TrialRow, name: str) -> float | None:
    return row.summary.metric(name) if row.summary else None


def _trial(place: int, row: TrialRow, keys: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    summary = row.summary
    return {
        "place": place if row.state == "done" else "",
        "number": row.number,
        "values": [written(row.values[key]) for key in keys],
        "state": row.state,
        "figures": [
            figure_text(metrics[0], row.value),
            *(figure_text(key, _metric(row, key)) for key in metrics[1:]),
            figure_text("steps", summary.steps if summary else None),
            figure_text("seconds", summary.train_seconds if summary else None),
        ],
    }


def _plan(sweep: Sweep) -> list[tuple[str, Any]]:
    plan = sweep.plan
    rows: list[tuple[str, Any]] = [
        ("command", plan.command),
        ("metric", plan.metric),
        ("points", f"{plan.drawn} drawn at random" if plan.drawn else "a grid"),
        ("seeds", plan.seeds),
        ("engine", plan.engine),
        ("jobs", plan.jobs),
        ("pruning", "by the median" if plan.prune else "none"),
    ]
    return [(title, value) for title, value in rows if value != ""]


def _settings(sweep: Sweep, rows: Sequence[TrialRow]) -> dict[str, list[SettingRow]]:
    """Return the settings that all trials share.

    They are those of the trials' runs, for which some are chosen at the start. Before the first: those of the plan
    without what is chosen, or none if they are not a valid config without the swept keys.
    """
    configs = _trial_configs(rows)
    if configs:
        values = [script.known_values(config) for config in configs]
        different = [key for key in values[0] if any(one.get(key) != values[0][key] for one in values)]
        return settings_by_section(configs[0], without=(*sweep.plan.over, *different))
    if sweep.plan.script is not None:
        return {}
    try:
        return settings_by_section(settings.build(sweep.plan.base), without=(*sweep.plan.over, *CHOSEN))
    except ConfigError:
        return {}


def _trial_configs(rows: Sequence[TrialRow]) -> list[RunConfig]:
    """Return the configs of the trials that have begun and can be read."""
    configs = []
    for row in rows:
        if (run := run_of(row)) is not None:
            with suppress(ConfigError, OSError):
                configs.append(run.config())
    return configs
