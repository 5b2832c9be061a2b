"""The texts of Home: a line per preset and run, what the keys do with one, and hints for a new user."""

import re
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from tui_lab.app.labels import ago
from tui_lab.app.resuming import why_not_resumable
from tui_lab.core.config import settings
from tui_lab.core.runs.catalog import RunState, final_state, row_of
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import in_use
from tui_lab.core.runs.run_files import CONFIG
from tui_lab.runs.names import short_name
from tui_lab.runs.numbers import percent, short_number

HINTS = (
    "New? [Enter] starts the selected preset; reverse takes about a minute.",
    "While it trains: [Space] pauses, [s] makes one step, [3] shows its examples,",
    "[L] doubles the learning rate, [g] generates, [K] looks for mistakes.",
    "[?] explains what you see, [q] saves and quits. [t] opens lessons.",
)
"""For a new user; keys are in brackets."""
PRESET_KEYS = "Enter: start   Space: open paused"
NAME_WIDTH = 44
"""Columns for the names of runs; longer names get the room that is left."""
STATE_WIDTH, STEPS_WIDTH, LOSS_WIDTH, METRIC_WIDTH, DATE_WIDTH = 12, 9, 15, 13, 11
"""Columns, with a space after the longest text."""
LEAST_NAME_WIDTH = 28


def hints() -> Text:
    """Return the hints, with the keys in bold."""
    text = Text(no_wrap=True, overflow="ellipsis")
    for part in re.split(r"(\[[^]]+\])", "\n".join(HINTS)):
        is_key = part.startswith("[")
        text.append(part.strip("[]") if is_key else part, "bold" if is_key else "")
    return text


@dataclass(frozen=True)
class ListedRun:
    """A run as Home lists it. created: POSIX seconds; loss and metric: "" if not known."""

    path: Path
    state: RunState
    steps: int
    loss: str
    metric: str
    created: float

    def line(self, width: int, now: float, longest_name: int = 0) -> Text:
        """Return the run as a line; in a narrow terminal the metric is left out, then the steps.

        now: POSIX seconds. longest_name: characters of the longest name of the list.
        """
        columns = [
            (f"{self.state:<{STATE_WIDTH}}", 3),
            (f"{self.steps:>{STEPS_WIDTH - 1},} ", 1),
            (f" {self.loss:<{LOSS_WIDTH - 1}}", 2),
            (f"{self.metric:<{METRIC_WIDTH}}", 0),
            (f"{ago(self.created, now):>{DATE_WIDTH}}", 2),
        ]
        for rank in (0, 1):
            if width - sum(len(text) for text, _ in columns) < LEAST_NAME_WIDTH:
                columns = [part for part in columns if part[1] != rank]
        room = width - sum(len(text) for text, _ in columns)
        n_name = max(LEAST_NAME_WIDTH, min(max(NAME_WIDTH, longest_name + 4), room))
        name = f"  {short_name(self.path.name, n_name - 4)}".ljust(n_name)
        return Text.assemble((name, "bold"), *(text for text, _ in columns), no_wrap=True)


def listed_run(run: Run) -> ListedRun:
    """Return a run with its results: from its summary if that is up to date, otherwise from the end of its log."""
    summary = run.current_summary()
    if summary is None:
        row = row_of(run.path, run.name)
        exact = row.metric if row.metric_name == "exact_match" else None
        perplexity = row.metric if row.metric_name == "perplexity" else None
        loss = _loss(row.val_loss, row.train_loss)
        return ListedRun(run.path, row.state, row.steps, loss, _metric(exact, perplexity), row.created)
    return ListedRun(
        run.path,
        final_state(summary),
        summary.steps,
        _loss(summary.val_loss, summary.train_loss),
        _metric(summary.exact_match, summary.perplexity),
        _modified(run.path / CONFIG),
    )


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _loss(val_loss: float | None, train_loss: float | None) -> str:
    if val_loss is not None:
        return f"val {short_number(val_loss)}"
    return "" if train_loss is None else f"loss {short_number(train_loss)}"


def _metric(exact_match: float | None, perplexity: float | None) -> str:
    if exact_match is not None:
        return f"exact {percent(exact_match)}"
    return "" if perplexity is None else f"ppl {short_number(perplexity)}"


def preset_line(name: str) -> Text:
    return Text.assemble((f"  {name:<18}", "bold"), settings.presets()[name].header[0])


def preset_hint(name: str) -> str:
    """Return the whole description of a preset, and what the keys do with it."""
    return "\n".join([*settings.presets()[name].header, PRESET_KEYS])


def run_hint(path: Path) -> str:
    """Return the whole name of a run, and what the keys do with it."""
    if in_use(path) is not None:
        return f"{path.name}\nEnter: follow it live, and steer it"
    return f"{path.name}\nEnter: replay   {why_not_resumable(path) or 'c: resume'}"
