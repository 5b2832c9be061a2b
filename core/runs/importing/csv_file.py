"""Read runs from a CSV file: one of ours, of a CSVLogger, or exported from wandb."""

import csv
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tui_lab.core import events as ev
from tui_lab.core.runs.importing.columns import Columns, find_columns, find_counter
from tui_lab.core.runs.importing.counters import Counters
from tui_lab.core.runs.importing.names import name_of
from tui_lab.core.runs.importing.source import ImportSource, Row, sha256_of
from tui_lab.util.errors import DataError

DELIMITERS = (",", ";", "\t")
MISSING = frozenset({"", "none", "null", "na", "n/a"})
"""Cells without a value, in lower case. NaN is a value."""
OURS = ("run", "event")
"""The first columns of our own export: the name of the run, and the kind of its event."""
RECOMPUTED = ("best", "since_best")
"""Columns of our own export that follow from the others."""
EXAMPLES = "examples"
"""The column of our own export with the number of examples of an evaluation."""
IN_PANEL = " - "
"""In the CSV of a panel of wandb, between the name of a run and that of a metric."""
BOUNDS_OF_PANEL = ("__MIN", "__MAX")
IN_TABLE_OF_RUNS = frozenset({"Name", "State"})
TIMES_OF_RUNS = frozenset({"Created", "Runtime"})
"""wandb's table of runs has the columns of the first set, and one or both of the second unless its user hid them."""
ROW_NUMBER = "row number"


@dataclass
class _Table:
    """The part of a file that is one run. places: of its columns in a row; run: in our own export, its name."""

    name: str
    places: Mapping[str, int]
    run: str | None = None
    columns: Columns = field(default_factory=dict)
    with_text: set[str] = field(default_factory=set)
    """Columns in which a cell is not a number."""
    counters: Counters = field(default_factory=Counters)
    """Which columns may count steps."""
    numbers_rows: bool = False
    """Whether the user wants the rows to be counted."""


def read_csv(path: Path, given: Mapping[str, str], *, number_rows: bool) -> list[ImportSource]:
    """Return the runs in a CSV file. given: columns by value, see `find_columns`; number_rows: a row is a step.

    The file is read in bounded memory, twice. Raises ConfigError, DataError.
    """
    with _lines(path) as lines:
        delimiter, header = _header(path, lines)
        _refuse_table_of_runs(path, header)
        tables = _tables(path, header, csv.reader(lines, delimiter=delimiter))
    for table in tables:
        names = [name for name in table.places if name not in OURS]
        columns = dict(find_columns(names, given))
        if table.run is not None and EXAMPLES in names:
            columns.setdefault("examples", EXAMPLES)
        if number_rows:
            columns.pop("step", None)
        table.numbers_rows = number_rows
        table.columns = columns
    _scan(path, delimiter, tables)
    for table in tables:
        _choose_step(table)
    sha256 = sha256_of(path)
    return [_source(path, delimiter, table, sha256) for table in tables]


def _choose_step(table: _Table) -> None:
    """Where no column is the step by its name: one of a less certain name that counts, otherwise the epoch."""
    if table.numbers_rows or "step" in table.columns:
        return
    counting = [name for name in table.counters.names if name not in table.columns.values()]
    step = find_counter(counting) or table.columns.get("epoch")
    if step is not None:
        table.columns = {**table.columns, "step": step}


@contextmanager
def _lines(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a file. Raises DataError where it cannot be read as a text."""
    if not path.is_file():
        raise DataError.of("unreadable", "not a regular file", key=str(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            yield stream
    except UnicodeDecodeError as error:
        raise DataError.of("damaged", "not a text in UTF-8", key=str(path)) from error
    except csv.Error as error:
        raise DataError.of("damaged", f"not a CSV file: {error}", key=str(path)) from error
    except OSError as error:
        raise DataError.of("unreadable", error.strerror or str(error), key=str(path)) from error


def _header(path: Path, lines: Iterator[str]) -> tuple[str, list[str]]:
    """Return the delimiter, which is the most frequent one of the first line, and the names of the columns."""
    first = next(lines, "")
    if not first.strip():
        raise DataError.of("missing", "is empty: the first line must name the columns", key=str(path))
    delimiter = max(DELIMITERS, key=first.count)
    return delimiter, [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]


def _refuse_table_of_runs(path: Path, header: Sequence[str]) -> None:
    """Raise DataError for wandb's table of runs: its lines are runs with their last values, so no column is a step."""
    names = set(header)
    if names >= IN_TABLE_OF_RUNS and names & TIMES_OF_RUNS:
        message = (
            "is wandb's table of runs: each line is a whole run with its last values, so there is no curve to import. "
            "In wandb, export the chart of the loss instead (the menu of its panel, CSV), "
            "or write the history of a run with wandb.Api().run(PATH).history().to_csv(FILE)"
        )
        raise DataError.of("invalid", message, key=str(path))


def _tables(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[_Table]:
    """Return one table for each run in the file."""
    places: dict[str, int] = {}
    for place, name in enumerate(header):
        # The first of equal names counts; a column without a name is the index of pandas.
        if name:
            places.setdefault(name, place)
    if tuple(header[:2]) == OURS:
        runs = dict.fromkeys(row[0] for row in rows if row)
        places = {name: place for name, place in places.items() if name not in RECOMPUTED}
        return [_Table(run, places, run) for run in runs]
    in_panel = [name for name in places if IN_PANEL in name]
    if in_panel:
        return _tables_of_panel(places, in_panel)
    return [_Table(name_of(path), places)]


def _tables_of_panel(places: Mapping[str, int], in_panel: Sequence[str]) -> list[_Table]:
    shared = {name: place for name, place in places.items() if name not in in_panel}
    runs: dict[str, dict[str, int]] = {}
    for name in in_panel:
        run, _, metric = name.rpartition(IN_PANEL)
        if not metric.endswith(BOUNDS_OF_PANEL):
            runs.setdefault(run, dict(shared))[metric] = places[name]
    return [_Table(run, of_run) for run, of_run in runs.items()]


def _scan(path: Path, delimiter: str, tables: Sequence[_Table]) -> None:
    """Find the columns with text, and those that count. Raises DataError for text in a named column."""
    with _lines(path) as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        next(reader, None)
        for row in reader:
            for table in tables:
                if table.run is None or (row and row[0] == table.run):
                    _scan_row(f"line {reader.line_num}", row, table)


def _scan_row(place: str, row: Sequence[str], table: _Table) -> None:
    named = set(table.columns.values())
    if row:
        table.counters.n_rows += 1
    for name, column in table.places.items():
        if name in table.with_text or name in OURS or column >= len(row):
            continue
        try:
            table.counters.add(name, _number(row[column]))
        except ValueError:
            if name in named:
                raise DataError.of("wrong_type", f"{place}: not a number", key=name, value=row[column]) from None
            table.with_text.add(name)
            table.counters.drop(name)


def _source(path: Path, delimiter: str, table: _Table, sha256: str) -> ImportSource:
    named = set(table.columns.values())
    numbers = [name for name in table.places if name not in table.with_text and name not in OURS]
    step = table.columns.get("step")
    n_without = 0 if step is None else table.counters.n_without(step)
    notes = [f"{n_without:,} rows without a step are left out"] if n_without else []
    if table.numbers_rows:
        notes.append("the rows are counted as steps")
    elif step is None:
        notes.append("no column is the step: the rows are counted" + _likely_step(table))
    elif step == table.columns.get("epoch"):
        notes.append("no column is the step: an epoch counts as a step")
    return ImportSource(
        path=path,
        format="csv",
        name=table.name,
        columns=table.columns if step is not None else {**table.columns, "step": ROW_NUMBER},
        rows=partial(_rows, path, delimiter, table, numbers),
        sha256=sha256,
        created=path.stat().st_mtime,
        others=[name for name in numbers if name not in named],
        ignored=[name for name in table.places if name in table.with_text],
        notes=notes,
    )


def _likely_step(table: _Table) -> str:
    """Return a hint at a column that counts, if there is one that is nothing else."""
    taken = set(table.columns.values())
    name = next((name for name in table.counters.names if name not in taken), None)
    return "" if name is None else f"; column {name!r} looks like the step: --column step={name}"


def _rows(path: Path, delimiter: str, table: _Table, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a run, in the order of the file."""
    step_column = table.columns.get("step")
    epoch_is_step = step_column is not None and step_column == table.columns.get("epoch")
    n_rows = 0
    with _lines(path) as lines:
        reader = csv.reader(lines, delimiter=delimiter)
        next(reader, None)
        for row in reader:
            if not row or (table.run is not None and row[0] != table.run):
                continue
            cells = ((name, _cell(row, table.places[name])) for name in names)
            values = {name: number for name, number in cells if number is not None}
            place = f"line {reader.line_num}"
            n_rows += 1
            step = float(n_rows) if step_column is None else values.get(step_column)
            if step is None:
                continue
            if step_column is not None and not epoch_is_step:
                del values[step_column]
            yield Row(place, _whole(place, step_column or ROW_NUMBER, step), values)


def _whole(place: str, column: str, step: float) -> int:
    """Return a step. Raises DataError where it is not a whole number."""
    if not (math.isfinite(step) and step == int(step) and 0 <= step <= ev.LARGEST):
        message = (
            f"{place}: a step must be a whole number, 0 or larger; "
            "name another column with --column step=NAME, or count the rows with --number-rows"
        )
        raise DataError.of("wrong_type", message, key=column, value=step)
    return int(step)


def _cell(row: Sequence[str], place: int) -> float | None:
    return _number(row[place]) if place < len(row) else None


def _number(cell: str) -> float | None:
    """Return the number in a cell; None where there is none. Raises ValueError for a text."""
    return None if cell.strip().lower() in MISSING else float(cell)


def is_csv(path: Path) -> bool:
    """Return whether a file has the suffix of one that can be read here."""
    return path.suffix.lower() in (".csv", ".tsv")
