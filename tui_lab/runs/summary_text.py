"""A run's summary as text."""

from collections.abc import Callable
from typing import Any

from tui_lab.core.config.script import Unit
from tui_lab.core.runs.catalog import RunState
from tui_lab.core.runs.summary import Summary
from tui_lab.data.dataset import Task
from tui_lab.runs.figures import figure_text
from tui_lab.runs.names import state_name
from tui_lab.runs.numbers import percent, short_number

WIDTH = 16
"""Columns of the titles."""

_NUMBERS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("parameters", "parameters", lambda n: f"{n:,}"),
    ("train_loss", "train loss", lambda x: f"{short_number(x)} (running mean)"),
    ("val_loss", "validation loss", short_number),
    ("perplexity", "perplexity", short_number),
    ("tokens_per_s", "{unit}/s", lambda x: f"{x:,.0f} (mean of the whole run)"),
    ("train_seconds", "train seconds", lambda x: f"{x:,.1f}"),
)


def replaced_characters(task: Task) -> str | None:
    """Return a warning if bytes of the text were replaced because they are not UTF-8."""
    n = task.n_replaced
    return f"{n:,} characters of the text are not UTF-8: the model learns U+FFFD in their place" if n else None


def line(title: str, value: str) -> str:
    """Return one line: the title, padded, and the value."""
    return f"{title:<{WIDTH}} {value}"


def summary_text(summary: Summary, unit: Unit = "tokens", *, state: RunState | None = None) -> str:
    """Format a summary, one line per figure.

    unit: what `summary.tokens` counts. state: of the run, which may not have ended; None: that of the summary.
    """
    lines = [f"{_progress_text(summary, state or summary.reason)} → {summary.run}"]
    if summary.exact_match is not None:
        share = f"{percent(summary.exact_match)} of {summary.val_examples:,} held-out examples"
        lines.append(line("exact match", share))
    if summary.best_step is not None and summary.best_step < summary.steps:
        best = f"validation loss {figure_text('best_val_loss', summary.best_val_loss)} at step {summary.best_step:,}"
        lines.append(line("best", best))
    for key, title, form in _NUMBERS:
        value = getattr(summary, key)
        if value is not None and (key != "train_seconds" or summary.has_time):
            lines.append(line(title.format(unit=unit), form(value)))
    if summary.faults:
        lines.append(line("planted faults", ", ".join(summary.faults)))
    return "\n".join(lines)


def _progress_text(summary: Summary, state: RunState) -> str:
    if state == "running":
        return f"running at step {summary.steps:,}"
    if state == "no-steps":
        return state_name(state)
    return f"{state_name(state)} after {summary.steps:,} steps"
