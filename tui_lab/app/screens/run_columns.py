"""The columns of the table of runs."""

from collections.abc import Callable
from dataclasses import dataclass

from tui_lab.app.panes.status_line import span
from tui_lab.core.runs.catalog import RunRow
from tui_lab.util.escape import printable

NAME_WIDTH = 34
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
    return "–" if value is None else f"{value:.4g}"


def _count(value: int | None) -> str:
    if value is None:
        return "–"
    if value >= 1e6:
        return f"{value / 1e6:.3g}M"
    return f"{value / 1e3:.3g}k" if value >= 1e4 else f"{value:,}"


def _metric(row: RunRow) -> str:
    if row.metric is None:
        return "–"
    return f"{row.metric:.2%}" if row.metric_name == "exact_match" else f"ppl {row.metric:.4g}"


def _time(row: RunRow) -> str:
    return "–" if row.seconds is None else span(row.seconds)


def short(name: str, width: int = NAME_WIDTH) -> str:
    """Return a name shortened to `width` columns. Of a sweep's trial, the trial's own name stays longest."""
    name = printable(name)
    if len(name) <= width:
        return name
    folder, _, trial = name.rpartition("/")
    if not folder:
        return name[: width - 1] + "…"
    trial = trial if len(trial) <= width - 6 else trial[: width - 7] + "…"
    return f"{folder[: width - len(trial) - 2]}…/{trial}"


COLUMNS = (
    Column("run", "name", lambda row: short(row.name)),
    Column("state", "state", lambda row: row.state),
    Column("steps", "steps", lambda row: f"{row.steps:,}", descending=True, number=True),
    Column("train", "train_loss", lambda row: _loss(row.train_loss), number=True),
    Column("val", "val_loss", lambda row: _loss(row.val_loss), number=True),
    Column("best", "best_val_loss", lambda row: _loss(row.best_val_loss), number=True),
    Column("metric", "exact_match", _metric, descending=True, number=True),
    Column("tags", "tag", lambda row: printable(" ".join(row.tags))),
    Column("time", "seconds", _time, descending=True, number=True),
    Column("params", "parameters", lambda row: _count(row.n_parameters), descending=True, number=True),
    Column("note", "note", lambda row: short(row.note.replace("\n", " "), NOTE_WIDTH)),
)
ORDERS = (FIRST_ORDER, *(column.order for column in COLUMNS))
TITLES = {"created": "start time"} | {column.key: column.title for column in COLUMNS}
"""By the key that is sorted by."""


def cell_text(column: Column, row: RunRow) -> str:
    """Return a cell; a damaged run has no numbers."""
    return "–" if row.problem and column.number else column.text(row)
