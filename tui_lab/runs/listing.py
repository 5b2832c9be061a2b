"""`runs ls` and `runs show`."""

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tui_lab.cli.show import write_json
from tui_lab.cli.summary_text import describe
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.events import Changed
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.catalog import RunRow, find_runs, row_of
from tui_lab.core.runs.export import summary_of
from tui_lab.core.runs.query import ordered, parse_condition, select
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable

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
"""What is told of a run, by its key in JSON and by its title."""
WIDE, DETAILS = 200, 120
"""Columns of a table that goes to no terminal; columns from which it tells everything."""


def list_runs(folder: Path | None, sort: str, where: Sequence[str], *, as_json: bool) -> None:
    """Raises ConfigError for a key that is none, RunError for a folder that is none."""
    conditions = [parse_condition(text) for text in where]
    root = folder if folder is not None else runs.runs_folder()
    if folder is not None and not folder.is_dir():
        raise RunError(f"{folder}: no such folder")
    every = find_runs(root)
    found = ordered(select(every, conditions), sort)
    if as_json:
        write_json([row_json(row) for row in found])
        return
    if not every:
        sys.stdout.write(f"no runs in {root} yet; make one: tui-lab run reverse\n")
        return
    if not found:
        sys.stdout.write(f"none of {len(every)} runs in {root}\n")
        return
    console = Console()
    # A file or pipe has room for everything; a narrow terminal first does without the date and the note.
    wide = WIDE if not (console.is_terminal or "COLUMNS" in os.environ) else console.width
    Console(width=wide).print(_table(found, details=wide >= DETAILS))


def _table(rows: Sequence[RunRow], *, details: bool) -> Table:
    shown = [key for key in ("exact_match", "perplexity") if any(row.metric_name == key for row in rows)]
    keys = ("steps", "train_loss", "val_loss", *shown)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("run", no_wrap=True, overflow="fold")
    if details:
        table.add_column("made", no_wrap=True)
    table.add_column("state", no_wrap=True)
    for key, title in FIGURES:
        if key in keys:
            table.add_column(title, justify="right", no_wrap=True)
    table.add_column("tags")
    if details:
        table.add_column("note")
    for row in rows:
        told = row_json(row)
        made = [time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created))] if details else []
        figures = (number(key, told[key]) for key, _ in FIGURES if key in keys)
        note = [row.problem or row.note] if details else []
        cells = (row.name, *made, row.state, *figures, " ".join(row.tags), *note)
        table.add_row(*(Text(printable(cell)) for cell in cells), style="dim" if row.state == "damaged" else "")
    return table


def row_json(row: RunRow) -> dict[str, Any]:
    """A row as JSON values; what is not known is null."""
    return {
        "run": str(row.path),
        "name": row.name,
        "created": row.created,
        "state": row.state,
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
    }


def number(key: str, value: Any) -> str:
    """A figure for people."""
    if value is None:
        return "–"
    if key == "exact_match":
        return f"{100 * value:.4g} %"
    if key in ("seconds", "perplexity"):
        return f"{value:,.2f}"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def show_run(name: str, *, as_json: bool) -> None:
    run = runs.find(name)
    row, config, summary = row_of(run.path, run.name), run.config(), summary_of(run)
    changes = [event.to_json() for event in run.downsampled().events() if isinstance(event, Changed)]
    others = unlike_defaults(config)
    if as_json:
        write_json(
            summary.to_json()
            | {"state": row.state, "tags": list(row.tags), "note": row.note, "changed": changes}
            | {"config": config.model_dump(mode="json"), "not_default": others}
        )
        return
    out = [describe(summary)]
    if row.state == "running":
        out.append("a process trains it now")
    if row.tags:
        out.append(f"{'tags':<16} {' '.join(row.tags)}")
    if row.note:
        out.append(f"{'note':<16} {row.note}")
    out.append("\n" + (settings_table(others) if others else "every setting is the default") + "\n")
    out += [f"step {change['step']:,}: {change['key']} {change['old']} → {change['new']}" for change in changes]
    sys.stdout.write(printable("\n".join(out).rstrip("\n")) + "\n")


def unlike_defaults(config: Config) -> dict[str, Any]:
    """The settings that are not the default, as JSON values."""
    plain, default = config.model_dump(mode="json"), Config().model_dump(mode="json")
    found = {}
    for key in settings.fields():
        section, _, name = key.rpartition(".")
        value, usual = ((tables[section] if section else tables)[name] for tables in (plain, default))
        if value != usual:
            found[key] = value
    return found


def settings_table(values: dict[str, Any]) -> str:
    """A setting a line, with what the default would be."""
    default = Config()
    width = max(map(len, values))
    return "\n".join(
        f"{key:<{width}}  {word(value)}  (default {word(settings.get(default, key))})" for key, value in values.items()
    )


def word(value: Any) -> str:
    """A setting's value for people."""
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(word, value)) + "]"
    return '""' if value == "" else str(value)
