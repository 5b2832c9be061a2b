"""Texts of the runs screen: a line about the list, and a line about one run."""

from pathlib import Path

from rich.text import Text

from tui_lab.app.labels import shown_path
from tui_lab.app.screens.run_columns import TITLES, short
from tui_lab.app.screens.run_list import RunList
from tui_lab.core.runs.catalog import RunRow


def list_text(runs: RunList, folder: Path, n_marked: int) -> Text:
    """Return how many runs are shown and in which order, or what is wrong with the filter."""
    if runs.problem:
        return Text(f"✗ {runs.problem}", "bold", no_wrap=True, overflow="ellipsis")
    count = f"{len(runs.rows):,}"
    if runs.filter:
        count = f"{len(runs.shown):,} of {count}"
    text = Text(no_wrap=True, overflow="ellipsis")
    text.append(f"{count} runs ({shown_path(folder)})", "bold")
    text.append(f"  by {TITLES[runs.key]} {'↓' if runs.order.startswith('-') else '↑'}")
    return text.append(f"  {n_marked} marked" if n_marked else "")


def run_text(row: RunRow) -> Text:
    """Return a run's name, state, best loss, tags and note."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if row.problem:
        return text.append(f"✗ {short(row.problem, 300)}", "bold")
    best = "" if row.best_step is None else f", best {row.best_val_loss:.4g} at step {row.best_step:,}"
    text.append(short(row.name, 80), "bold").append(f"  {row.state}{best}")
    text.append(f"  {short(' '.join(row.tags), 60)}" if row.tags else "", "bold")
    return text.append(f"  {short(row.note, 200)}" if row.note else "", "italic")
