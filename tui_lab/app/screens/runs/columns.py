"""The columns of the table of runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tui_lab.app.labels import ago
from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.figures import figure_text
from tui_lab.runs.names import short_name, short_text
from tui_lab.runs.numbers import percent, short_number, span

LEAST_NAME_WIDTH = 28
NARROW_NAME_WIDTH = 16
WIDE = 90
"""From this width on, names have at least LEAST_NAME_WIDTH."""
NOTE_WIDTH = 40
FIRST_ORDER = "-created"
"""Newest first."""


@dataclass(frozen=True)
class Column:
    """key: a key of `tui_lab.core.runs.query.ordered`. descending: sort by it with the largest value first."""

    title: str
    key: str
    text: Callable[[RunRow], str]
    descending: bool = False
    number: bool = False

    @property
    def order(self) -> str:
        return f"-{self.key}" if self.descending else self.key


def _loss(value: float | None) -> str:
    return figure_text("val_loss", value)


def _count(value: int | None) -> str:
    if value is None:
        return "–"
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e4 else f"{value:,}"


def _metric(row: RunRow) -> str:
    if row.metric is None:
        return "–"
    if row.metric_name == "exact_match":
        return percent(row.metric)
    return f"ppl {short_number(row.metric)}"


def _time(row: RunRow) -> str:
    return "–" if row.seconds is None else span(row.seconds)


COLUMNS = (
    Column("run", "name", lambda row: row.name),
    Column("state", "state", lambda row: row.state),
    Column("steps", "steps", lambda row: f"{row.steps:,}", descending=True, number=True),
    Column("train", "train_loss", lambda row: _loss(row.train_loss), number=True),
    Column("val", "val_loss", lambda row: _loss(row.val_loss), number=True),
    Column("best", "best_val_loss", lambda row: _loss(row.best_val_loss), number=True),
    Column("metric", "exact_match", _metric, descending=True, number=True),
    Column("started", "created", lambda row: ""),
    Column("tags", "tag", lambda row: short_name(" ".join(row.tags), NOTE_WIDTH)),
    Column("time", "seconds", _time, descending=True, number=True),
    Column("params", "parameters", lambda row: _count(row.n_parameters), descending=True, number=True),
    Column("note", "note", lambda row: short_text(row.note or row.message, NOTE_WIDTH)),
)
ORDERS = tuple(FIRST_ORDER if column.key == "created" else column.order for column in COLUMNS)
TITLES = {column.key: column.title for column in COLUMNS} | {"created": "start time"}
"""By the key that is sorted by."""
KEPT = (
    "name", "state", "val_loss", "created", "steps", "best_val_loss", "exact_match", "train_loss", "tag", "seconds",
    "parameters", "note",
)  # fmt: skip
"""The keys of all columns, the most important first: those that fit are shown."""

AFTER_NAMES = ("seconds", "parameters")
"""Columns that are shown only where no name is cut."""


def cell_text(column: Column, row: RunRow, now: float = 0.0) -> str:
    """Return a cell; a damaged run has no numbers. now: POSIX seconds."""
    if column.key == "created":
        return ago(row.created, now)
    return "–" if row.problem and column.number else column.text(row)


def title_text(column: Column, order: str) -> str:
    """Return the title of a column, with an arrow if the runs are sorted by it."""
    arrow = {column.key: " ↑", f"-{column.key}": " ↓"}.get(order, "")
    return f"{column.title}{arrow}"


@dataclass(frozen=True)
class FittedColumns:
    """The columns that fit, in their order, and the width of the name."""

    columns: tuple[Column, ...]
    name_width: int


def fitted_columns(widths: Mapping[str, int], width: int, order: str, gap: int) -> FittedColumns:
    """Return the most important columns that fit into `width`, and the one that the runs are sorted by.

    widths: of each column's longest cell, by key; a column that is empty is missing. gap: columns of padding around
    each.
    """
    least = min(widths["name"], LEAST_NAME_WIDTH if width >= WIDE else NARROW_NAME_WIDTH)
    left = width - least - gap
    sorted_by = order.removeprefix("-")
    shown = {"name"}
    for key in sorted(KEPT[1:], key=lambda key: key != sorted_by):
        if key not in widths:
            continue
        cut = widths["name"] - least if key in AFTER_NAMES and key != sorted_by else 0
        if widths[key] + gap + cut > left:
            break
        left -= widths[key] + gap
        shown.add(key)
    columns = tuple(column for column in COLUMNS if column.key in shown)
    return FittedColumns(columns, min(widths["name"], least + left))
