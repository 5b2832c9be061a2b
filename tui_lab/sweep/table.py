"""Tables of a sweep: the live table, the ranking at the end, means over seeds, and lines for logs."""

import contextlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tui_lab.core import events as ev
from tui_lab.core.runs.event_log import read_events
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.sweep.folder import LOSS, Plan, TrialRow
from tui_lab.core.runs.sweep.search_space import label, short_names, written
from tui_lab.runs.figures import figure_text
from tui_lab.sweep import results
from tui_lab.sweep.results import Group
from tui_lab.util.errors import RunError

TAIL_BYTES = 2**16
"""Bytes at the end of an event log that are read for the progress of a running trial."""
BARS = "▁▂▃▄▅▆▇█"
SPARK_COLUMNS = 12
LEAST_SPARK_COLUMNS = 4
LONGEST_UNBROKEN = 12
"""Characters of a value that stays on one line."""
LOG_SCALE_FROM = 100.0
"""Ratio of the bounds from which a sparkline is logarithmic."""
STYLES = {"running": "cyan", "done": "green", "failed": "red", "pruned": "yellow", "interrupted": "yellow"}
FRAME_LINES = 7
"""Lines of a terminal that the table's frame and caption need."""
MIN_ROWS = 3
SHOWN_METRICS = ("train_loss", "val_loss", LOSS)
"""Metrics that every table shows."""


@dataclass(frozen=True)
class TrialFigures:
    """Figures of a trial, now or at its end; None if unknown."""

    steps: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    exact_match: float | None = None
    steps_per_s: float | None = None


def progress(row: TrialRow) -> TrialFigures:
    """Return the figures of a trial: from its summary, or from the end of its event log while it runs."""
    if summary := row.summary:
        seconds = summary.train_seconds
        return TrialFigures(
            steps=summary.steps,
            train_loss=summary.train_loss,
            val_loss=summary.val_loss,
            exact_match=summary.exact_match,
            steps_per_s=summary.steps / seconds if seconds else None,
        )
    return _progress_of(_last_events(row)) if row.state in ("running", "interrupted") else TrialFigures()


def _last_events(row: TrialRow) -> list[ev.Event]:
    events: list[ev.Event] = []
    log = Run(row.run).log
    # Another process may remove the log meanwhile.
    with contextlib.suppress(OSError, RunError):
        start = max(0, log.size() - TAIL_BYTES)
        events.extend(read_events(log.path, start, mid_line=start > 0))
    return events


def _progress_of(events: Sequence[ev.Event]) -> TrialFigures:
    steps = [event for event in events if isinstance(event, ev.StepDone)]
    evaluated = next((event for event in reversed(events) if isinstance(event, ev.Evaluated)), None)
    seconds = sum(step.seconds for step in steps)
    return TrialFigures(
        steps=steps[-1].step if steps else None,
        train_loss=steps[-1].loss_ema if steps else None,
        val_loss=evaluated.val_loss if evaluated else None,
        exact_match=evaluated.exact_match if evaluated else None,
        steps_per_s=len(steps) / seconds if seconds else None,
    )


def live_table(plan: Plan, rows: Sequence[TrialRow], height: int) -> Table:
    """Return the running and the last ended trials, as many as fit `height`, and a count of each state."""
    room = max(MIN_ROWS, height - FRAME_LINES)
    shown = [row for row in rows if row.state in ("running", "interrupted", "failed")][:room]
    done = [row for row in rows if row.state in ("done", "pruned")]
    waiting = [row for row in rows if row.state == "waiting"]
    shown += (done if len(done) + len(waiting) <= room - len(shown) else done[::-1])[: room - len(shown)]
    shown += waiting[: room - len(shown)]
    return trial_table(plan, sorted(shown, key=lambda row: row.number), caption=counted(rows))


def trial_table(
    plan: Plan, rows: Sequence[TrialRow], *, caption: str = "", sparks: dict[int, str] | None = None
) -> Table:
    """Return a table with a line per trial: its values, state and figures. sparks: sparklines by trial number."""
    names = short_names(plan.over)
    metrics = [] if plan.metric in SHOWN_METRICS else [plan.metric]
    table = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right")
    for key in plan.over:
        longest = max((len(written(row.values[key])) for row in rows), default=0)
        table.add_column(names[key], justify="right", overflow="fold", no_wrap=longest <= LONGEST_UNBROKEN)
    table.add_column("state", no_wrap=True)
    for title in ("steps", "train loss", "val loss", *(metric.replace("_", " ") for metric in metrics), "steps/s"):
        table.add_column(title.replace(" ", "\n"), justify="right", no_wrap=True)
    if sparks is not None:
        # Where room is short, the sparklines are cut before any number.
        table.add_column("loss", min_width=LEAST_SPARK_COLUMNS, overflow="crop")
    for row in rows:
        table.add_row(*_cells(plan, row, metrics), *([] if sparks is None else [sparks.get(row.number, "")]))
    return table


def _cells(plan: Plan, row: TrialRow, metrics: Sequence[str]) -> list[Text]:
    figures = progress(row)
    cells = [str(row.number), *(written(row.values[key]) for key in plan.over)]
    texts = [Text(cell) for cell in cells] + [Text(row.state, STYLES.get(row.state, "dim"))]
    numbers = [figure_text(key, getattr(figures, key)) for key in ("steps", "train_loss", "val_loss")]
    for metric in metrics:
        value = row.value if row.value is not None else getattr(figures, metric, None)
        numbers.append(figure_text(metric, value))
    return texts + [Text(number) for number in [*numbers, _speed(figures)]]


def _speed(figures: TrialFigures) -> str:
    return "–" if figures.steps_per_s is None else f"{figures.steps_per_s:,.0f}"


def group_table(plan: Plan, groups: Sequence[Group]) -> Table:
    """Return a table with a line per point: mean and standard deviation over its seeds."""
    keys = list(groups[0].values)
    names = short_names(keys)
    table = Table(
        title=f"{plan.metric.replace('_', ' ')} over {plan.seeds} seeds", title_justify="left", box=box.SIMPLE_HEAD
    )
    for key in keys:
        table.add_column(names[key], justify="right")
    for title in ("mean", "± std", "lowest", "highest", "seeds"):
        table.add_column(title, justify="right")
    for group in groups:
        values = group.metrics
        numbers = [group.mean, group.deviation, min(values, default=None), max(values, default=None)]
        cells = [written(group.values[key]) for key in keys]
        cells += [*(figure_text(plan.metric, number) for number in numbers), str(len(values))]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def counted(rows: Sequence[TrialRow]) -> str:
    """Return how many trials there are in each state: "3 done, 2 running, 6 waiting of 11 trials"."""
    states = [row.state for row in rows]
    order = ("done", "pruned", "failed", "running", "interrupted", "waiting")
    counts = [(states.count(state), state) for state in order if state in states]
    if len(counts) == 1:
        [(count, state)] = counts
        return f"{count:,} of {len(rows):,} trials {state}"
    return ", ".join(f"{count:,} {state}" for count, state in counts) + f" of {len(rows):,} trials"


def ended_line(plan: Plan, row: TrialRow) -> str:
    """Return a line about a trial that has ended, for logs and pipes."""
    figures = progress(row)
    parts = []
    if row.summary and row.summary.steps:
        losses = [("train_loss", figures.train_loss)]
        if figures.val_loss is not None:
            losses.append(("val_loss", figures.val_loss))
        if plan.metric not in SHOWN_METRICS:
            losses.append((plan.metric, row.value))
        parts = [f"{key.replace('_', ' ')} {figure_text(key, value)}" for key, value in losses]
        if figures.steps_per_s:
            parts.append(f"{_speed(figures)} steps/s")
    message = row.result.message.splitlines()[0] if row.result and row.result.message else ""
    details = "; ".join(part for part in (", ".join(parts), message) if part)
    return f"trial {row.number} {row.state}: {label(row.values)}: {details}"


def sparklines(rows: Sequence[TrialRow], kind: str) -> dict[int, str]:
    """Return the curve of a kind of each trial as a sparkline, by number, all on one scale."""
    values = {row.number: results.curve(row, kind)[1] for row in rows}
    finite = [value for one in values.values() for value in one if math.isfinite(value)]
    if not finite:
        return {}
    low, high = min(finite), max(finite)
    return {number: sparkline(one, low, high) for number, one in values.items()}


def sparkline(values: Iterable[float], low: float, high: float) -> str:
    """Return a curve as a row of bars between two bounds.

    The scale is logarithmic if the bounds are positive and decades apart.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite or not high > low:
        return ""
    scale: Any = math.log if low > 0 and high / low >= LOG_SCALE_FROM else float
    base, span = scale(low), scale(high) - scale(low)
    columns = finite
    if len(finite) > SPARK_COLUMNS:
        columns = [finite[i * len(finite) // SPARK_COLUMNS] for i in range(SPARK_COLUMNS)]
    columns[-1] = finite[-1]
    heights = [(scale(min(max(value, low), high)) - base) / span for value in columns]
    return "".join(BARS[min(int(height * len(BARS)), len(BARS) - 1)] for height in heights)
