"""A run's summary in words."""

from collections.abc import Callable
from typing import Any

from tui_lab.core.runs.summary import Summary
from tui_lab.data.dataset import Task

_NUMBERS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("parameters", "parameters", lambda n: f"{n:,}"),
    ("train_loss", "train loss", lambda x: f"{x:.4f}"),
    ("val_loss", "validation loss", lambda x: f"{x:.4f}"),
    ("perplexity", "perplexity", lambda x: f"{x:,.2f}"),
    ("tokens_per_s", "tokens/s", lambda x: f"{x:,.0f}"),
    ("train_seconds", "seconds", lambda x: f"{x:,.1f}"),
)


def replaced(task: Task) -> str:
    """What to say of a text that is not all UTF-8, as a binary file is not."""
    n = task.n_replaced
    return f"{n:,} characters of the text are not UTF-8: the model learns U+FFFD in their place" if n else ""


def describe(summary: Summary) -> str:
    """A summary in words, a line each."""
    lines = [f"{summary.steps:,} steps, {summary.reason}: {summary.run}"]
    if summary.exact_match is not None:
        lines.append(
            f"exact match      {summary.exact_match * 100:.6g} % of {summary.val_examples:,} held-out examples"
        )
    if summary.best_step is not None and summary.best_step < summary.steps:
        lines.append(f"{'best':<16} validation loss {summary.best_val_loss:.4f} at step {summary.best_step:,}")
    lines += [
        f"{title:<16} {form(value)}" for key, title, form in _NUMBERS if (value := getattr(summary, key)) is not None
    ]
    if summary.faults:
        lines.append(f"{'mistakes':<16} {', '.join(summary.faults)}, made on purpose")
    return "\n".join(lines)
