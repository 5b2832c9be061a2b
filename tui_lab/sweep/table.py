"""A sweep on the terminal: a live table, plain lines elsewhere, and the ranked table at the end."""

import json
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import EVENTS
from tui_lab.core.runs.sweep.folder import Plan, Row
from tui_lab.core.runs.sweep.search_space import label, short_names, written
from tui_lab.sweep.results import Group

TAIL = 2**16
"""Bytes at the end of a record that tell how a trial stands."""
BARS = "▁▂▃▄▅▆▇█"
SPARKS = 12
STYLES = {"running": "cyan", "done": "green", "failed": "red", "pruned": "yellow", "interrupted": "yellow"}
RESERVED = 7
"""Lines of a terminal that the table's frame and caption need."""


@dataclass(frozen=True)
class Figures:
    """How a trial stands, or stood at its end; None: not known."""

    steps: int | None = None
    train_loss: float | None = None
    val_loss: float | None = None
    exact_match: float | None = None
    steps_per_s: float | None = None


def figures(row: Row) -> Figures:
    if summary := row.summary:
        seconds = summary.train_seconds
        return Figures(
            summary.steps, summary.train_loss, summary.val_loss, summary.exact_match,
            summary.steps / seconds if seconds else None,
        )  # fmt: skip
    return _standing(_tail(row)) if row.state in ("running", "interrupted") else Figures()


def _tail(row: Row) -> list[ev.Event]:
    """The last events of a trial's record."""
    found: list[ev.Event] = []
    try:
        with (row.run / EVENTS).open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - TAIL))
            lines = stream.read().splitlines(keepends=True)
        # The first line may be cut, the last one not yet whole.
        for line in lines[1 if size > TAIL else 0 :]:
            if line.endswith(b"\n"):
                found.append(ev.from_json(json.loads(line)))
    except (OSError, ValueError):
        pass
    return found


def _standing(events: Iterable[ev.Event]) -> Figures:
    steps = [event for event in events if isinstance(event, ev.StepDone)]
    evaluated = next((event for event in reversed(list(events)) if isinstance(event, ev.Evaluated)), None)
    seconds = sum(step.seconds for step in steps)
    return Figures(
        steps[-1].step if steps else None,
        steps[-1].loss_ema if steps else None,
        evaluated.val_loss if evaluated else None,
        evaluated.exact_match if evaluated else None,
        len(steps) / seconds if seconds else None,
    )


def live_table(plan: Plan, rows: Sequence[Row], height: int) -> Table:
    """What runs and what ended last, as far as the terminal is high enough, and how many there are of each."""
    room = max(3, height - RESERVED)
    shown = [row for row in rows if row.state in ("running", "interrupted", "failed")][:room]
    done = [row for row in rows if row.state in ("done", "pruned")]
    waiting = [row for row in rows if row.state == "waiting"]
    shown += (done if len(done) + len(waiting) <= room - len(shown) else done[::-1])[: room - len(shown)]
    shown += waiting[: room - len(shown)]
    return trial_table(plan, sorted(shown, key=lambda row: row.number), caption=counted(rows))


def trial_table(plan: Plan, rows: Sequence[Row], *, caption: str = "", sparks: dict[int, str] | None = None) -> Table:
    """A line for each trial: its values, its state and its figures."""
    names = short_names(plan.over)
    own = plan.metric not in ("train_loss", "val_loss")
    table = Table(caption=caption, caption_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("trial", justify="right")
    for key in plan.over:
        table.add_column(names[key], justify="right", overflow="fold")
    table.add_column("state", no_wrap=True)
    for title in ("steps", "train loss", "val loss", *([plan.metric.replace("_", " ")] if own else []), "steps/s"):
        table.add_column(title.replace(" ", "\n"), justify="right", no_wrap=True)
    if sparks is not None:
        table.add_column("loss", min_width=SPARKS, no_wrap=True)
    for row in rows:
        known = figures(row)
        value = row.value if row.value is not None else getattr(known, plan.metric, None)
        cells: list[Any] = [str(row.number), *(written(row.values[key]) for key in plan.over)]
        cells += [Text(row.state, STYLES.get(row.state, "dim")), _whole(known.steps)]
        cells += [_number(known.train_loss), _number(known.val_loss), *([_number(value)] if own else [])]
        cells += [_whole(known.steps_per_s), *([] if sparks is None else [sparks.get(row.number, "")])]
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))
    return table


def group_table(plan: Plan, found: Sequence[Group]) -> Table:
    """A line for each point: mean and deviation over its seeds."""
    keys = list(found[0].values)
    names = short_names(keys)
    table = Table(
        title=f"{plan.metric.replace('_', ' ')} over {plan.seeds} seeds", title_justify="left", box=box.SIMPLE_HEAD
    )
    for key in keys:
        table.add_column(names[key], justify="right")
    for title in ("mean", "± std", "lowest", "highest", "seeds"):
        table.add_column(title, justify="right")
    for group in found:
        values = group.found
        ends = (min(values), max(values)) if values else (None, None)
        cells = [written(group.values[key]) for key in keys]
        cells += [_number(group.mean), _number(group.deviation), *(_number(end) for end in ends), str(len(values))]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def counted(rows: Sequence[Row]) -> str:
    """How many trials there are in each state: "3 done, 2 running, 6 waiting of 11"."""
    states = [row.state for row in rows]
    order = ("done", "pruned", "failed", "running", "interrupted", "waiting")
    return ", ".join(f"{states.count(s):,} {s}" for s in order if s in states) + f" of {len(rows):,} trials"


def ended_line(plan: Plan, row: Row) -> str:
    """One trial's end in words, for logs and pipes."""
    known = figures(row)
    told = [f"train loss {_number(known.train_loss)}", f"val loss {_number(known.val_loss)}"]
    if plan.metric not in ("train_loss", "val_loss"):
        told.append(f"{plan.metric.replace('_', ' ')} {_number(row.value)}")
    if known.steps_per_s:
        told.append(f"{known.steps_per_s:,.0f} steps/s")
    message = row.result.message.splitlines()[0] if row.result and row.result.message else ""
    words = ", ".join(told) if row.summary else ""
    about = "; ".join(part for part in (words, message) if part)
    return f"trial {row.number} {row.state}: {label(row.values)}: {about}"


def sparkline(values: Sequence[float], low: float, high: float) -> str:
    """A curve as a line of bars between two bounds; logarithmic where these are decades apart and above zero."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite or not high > low:
        return ""
    scale = math.log if low > 0 and high / low >= 100 else float
    base, span = scale(low), scale(high) - scale(low)
    columns = [finite[i * len(finite) // SPARKS] for i in range(SPARKS)] if len(finite) > SPARKS else finite
    columns[-1] = finite[-1]
    heights = [(scale(min(max(value, low), high)) - base) / span for value in columns]
    return "".join(BARS[min(int(height * len(BARS)), len(BARS) - 1)] for height in heights)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _whole(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
