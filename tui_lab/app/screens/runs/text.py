"""Texts of the runs screen: a line about the list, a line about one run, and its details."""

import time
from pathlib import Path

from rich.text import Text

from tui_lab.app.labels import shown_path
from tui_lab.app.screens.runs.columns import TITLES
from tui_lab.app.screens.runs.run_list import RunList
from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.figures import FIGURES, figure_text, row_json
from tui_lab.runs.listing import not_default
from tui_lab.runs.live_changes import settings_texts
from tui_lab.runs.names import short_name, short_text, state_name
from tui_lab.runs.numbers import span
from tui_lab.util.escape import printable

TITLE_WIDTH = 16
NEWLINES = "\n"


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
        return text.append(f"✗ {short_text(row.problem, 300)}", "bold")
    best_loss = figure_text("best_val_loss", row.best_val_loss)
    best = "" if row.best_step is None else f", best {best_loss} at step {row.best_step:,}"
    text.append(short_name(row.name, 80), "bold").append(f"  {state_name(row.state)}{best}")
    text.append(f"  {short_name(' '.join(row.tags), 60)}" if row.tags else "", "bold")
    if row.note:
        return text.append(f"  {short_text(row.note, 200)}", "italic")
    return text.append(f"  {short_text(row.message, 200)}" if row.message else "")


def details_text(row: RunRow) -> Text:
    """Return what is known of a run, a line each, and its settings that differ from the default."""
    text = Text(no_wrap=True, overflow="ellipsis")
    if row.problem:
        return text
    started = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(row.created))
    total = "" if row.config is None or not row.config.train.steps else f" of {row.config.train.steps:,}"
    lines = [
        ("state", f"{state_name(row.state)}, step {row.steps:,}{total}"),
        ("reason", row.message),
        ("started", started),
        ("training time", "" if row.seconds is None else span(row.seconds)),
        *((title, figure_text(key, value)) for key, title in FIGURES if (value := _figure(row, key)) is not None),
        ("tags", " ".join(row.tags)),
        ("folder", shown_path(row.path)),
    ]
    for title, value in lines:
        if value:
            text.append(f"{title:<{TITLE_WIDTH}}", "dim").append(f"{printable(value)}\n")
    if row.note:
        text.append(f"\n{printable(row.note, NEWLINES)}\n", "italic")
    if row.config is not None and (settings := settings_texts(not_default(row.config), row.changes)):
        width = max(map(len, settings))
        text.append("\nSettings that differ from the default or were changed\n", "bold")
        for key, value in settings.items():
            text.append(f"{key:<{width}}", "dim").append(f"  {printable(value)}\n")
    return text


def _figure(row: RunRow, key: str) -> object:
    return None if key in ("steps", "seconds") else row_json(row)[key]
