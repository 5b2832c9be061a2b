"""The figures of a run: which ones are shown, their titles, and how values are written for people and as JSON."""

from typing import Any

from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.numbers import percent, short_number
from tui_lab.util.ranges import ranges_text

FIGURES: tuple[tuple[str, str], ...] = (
    ("steps", "steps"),
    ("train_loss", "train loss"),
    ("val_loss", "val loss"),
    ("best_val_loss", "best val loss"),
    ("best_step", "best step"),
    ("exact_match", "exact match"),
    ("perplexity", "perplexity"),
    ("parameters", "parameters"),
    ("seconds", "seconds"),
)
"""The figures of a run: key in JSON, title in a table."""

PRECISION = 12
"""Digits of a setting that is shown without the rounding of its last ones."""
MAX_SAVED = 4
"""Characters by which it must be shorter for this."""


def figure_text(key: str, value: Any) -> str:
    """Format the figure named `key`; None becomes a dash."""
    if value is None:
        return "–"
    if key == "exact_match":
        return percent(value)
    if key in ("seconds", "train_seconds"):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else short_number(value)


def setting_text(value: Any) -> str:
    """Format a setting's value; an empty string is shown as "", a list in brackets, a text with a newline in quotes."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(ranges_text(value) or map(setting_text, value)) + "]"
    if isinstance(value, str) and not value.isprintable():
        return repr(value)
    if isinstance(value, float) and len(short := f"{value:.{PRECISION}g}") < len(repr(value)) - MAX_SAVED:
        return short  # The rounding of a computed number, as in 0.1 + 0.2, says nothing.
    return '""' if value == "" else str(value)


def row_json(row: RunRow) -> dict[str, Any]:
    """Return a row of the catalog as JSON values; what is unknown is null."""
    return {
        "run": str(row.path),
        "name": row.name,
        "created": row.created,
        "state": row.state,
        "kind": row.kind,
        "steps": row.steps,
        "train_loss": row.train_loss,
        "val_loss": row.val_loss,
        "best_val_loss": row.best_val_loss,
        "best_step": row.best_step,
        "exact_match": row.metric if row.metric_name == "exact_match" else None,
        "perplexity": row.metric if row.metric_name == "perplexity" else None,
        "parameters": row.n_parameters,
        "seconds": row.seconds,
        "tags": list(row.tags),
        "note": row.note,
        "problem": row.problem or None,
        "message": row.message or None,
    }
