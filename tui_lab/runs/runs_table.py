"""The table of `runs ls`: as many columns as fit the width, none of them cut."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.figures import FIGURES, figure_text, row_json
from tui_lab.runs.names import short_name, short_text
from tui_lab.util.escape import printable

GAP = 2
LEAST_NAME_WIDTH = 22
NOTE_WIDTH = 40
DROPPED_FIRST = ("note", "perplexity", "train_loss", "exact_match", "tags", "created", "steps", "val_loss")
"""Columns that are left out of a narrow table, in this order."""


@dataclass(frozen=True)
class Column:
    key: str
    title: str
    cells: Sequence[str]
    number: bool = False

    @property
    def width(self) -> int:
        return max(map(cell_len, (self.title, *self.cells)))


def runs_table(rows: Sequence[RunRow], width: int) -> Table:
    """Return a table with a line per run; where the columns do not fit `width`, some are left out."""
    columns = _fitting(_columns(rows), width)
    others = sum(column.width + GAP for column in columns)
    name_width = max(LEAST_NAME_WIDTH, width - others)
    names = [short_name(row.name, name_width) for row in rows]
    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0))
    table.add_column("run", no_wrap=True)
    for column in columns:
        table.add_column(column.title, justify="right" if column.number else "left", no_wrap=True)
    for number, row in enumerate(rows):
        cells = (names[number], *(column.cells[number] for column in columns))
        table.add_row(*map(Text, cells), style="dim" if row.state == "damaged" else "")
    return table


def _columns(rows: Sequence[RunRow]) -> list[Column]:
    """Return all columns but the name; metrics that no run has, tags and notes only where there are any."""
    values = [row_json(row) for row in rows]
    created = [time.strftime("%Y-%m-%d %H:%M", time.localtime(row.created)) for row in rows]
    columns = [Column("created", "created", created), Column("state", "state", [row.state for row in rows])]
    for key, title in FIGURES:
        shown = key in ("steps", "train_loss", "val_loss") or (
            key in ("exact_match", "perplexity") and any(row.metric_name == key for row in rows)
        )
        if shown:
            columns.append(Column(key, title, [figure_text(key, value[key]) for value in values], number=True))
    tags = [printable(" ".join(row.tags)) for row in rows]
    notes = [short_text(row.problem or row.note or row.message, NOTE_WIDTH) for row in rows]
    columns += [Column("tags", "tags", tags)] if any(tags) else []
    return [*columns, Column("note", "note", notes)] if any(notes) else columns


def _fitting(columns: Sequence[Column], width: int) -> list[Column]:
    fitting = list(columns)
    for key in DROPPED_FIRST:
        if sum(column.width + GAP for column in fitting) + LEAST_NAME_WIDTH <= width:
            break
        fitting = [column for column in fitting if column.key != key]
    return fitting
