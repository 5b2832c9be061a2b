"""Filtering, sorting and marking runs, and their names in the table."""

from pathlib import Path

import pytest

from tui_lab.app.curve_colors import CURVE_STYLES
from tui_lab.app.screens.runs.columns import COLUMNS, KEPT, ORDERS, cell_text, fitted_columns
from tui_lab.app.screens.runs.marks import LETTERS, Marks
from tui_lab.app.screens.runs.run_list import RunList
from tui_lab.core.config import settings
from tui_lab.core.runs.catalog import RunRow
from tui_lab.runs.names import short_name

NAME_WIDTH = 34


def row(name: str, train_loss: float = 1.0, **more: object) -> RunRow:
    return RunRow(Path(name), name, 0.0, "done", train_loss=train_loss, **more)  # type: ignore[arg-type]


@pytest.fixture
def run_list() -> RunList:
    run_list = RunList()
    config = settings.load("reverse")
    run_list.set_rows(
        [
            row("good", 0.25, config=settings.changed(config, "optim.lr", 0.02)),
            row("middle", 0.5, config=settings.changed(config, "optim.lr", 0.01)),
            row("bad", 1.5, config=settings.changed(config, "optim.lr", 0.5), tags=("keep",)),
        ]
    )
    return run_list


def names(run_list: RunList) -> list[str]:
    return [row.name for row in run_list.shown]


def test_sort_by_a_column_and_reverse(run_list: RunList) -> None:
    run_list.sort_by("train_loss")
    assert names(run_list) == ["good", "middle", "bad"]
    run_list.reverse()
    assert names(run_list) == ["bad", "middle", "good"] and run_list.key == "train_loss"
    run_list.sort_by_next()
    assert run_list.order == "val_loss"
    run_list.sort_by_key("name")
    assert names(run_list) == ["bad", "good", "middle"]
    run_list.sort_by_key("name")
    assert names(run_list) == ["middle", "good", "bad"]
    run_list.sort_by_key("mark")
    assert run_list.order == "-name", "a column that cannot be sorted by changes nothing"


def test_next_goes_through_every_order(run_list: RunList) -> None:
    orders = []
    for _ in ORDERS:
        run_list.sort_by_next()
        orders.append(run_list.order)
    assert sorted(orders) == sorted(ORDERS)


@pytest.mark.parametrize(
    ("text", "expected"), [("goo", ["good"]), ("optim.lr<0.015", ["middle"]), ("tag=keep", ["bad"]), ("", None)]
)
def test_filter_takes_words_and_conditions(run_list: RunList, text: str, expected: list[str] | None) -> None:
    run_list.set_filter(text)
    assert sorted(names(run_list)) == (expected or ["bad", "good", "middle"]) and not run_list.problem


def test_invalid_filter_keeps_the_rows_that_are_shown(run_list: RunList) -> None:
    run_list.set_filter("goo")
    run_list.set_filter("lr<1")
    assert names(run_list) == ["good"] and "optim.lr" in run_list.problem
    run_list.set_rows([row("other")])
    assert names(run_list) == [] and run_list.problem


def test_marks_use_free_letters_and_are_limited() -> None:
    marks = Marks()
    rows = [row(f"run-{i}") for i in range(len(LETTERS) + 1)]
    assert all(marks.toggle(each.path) for each in rows[:-1]) and not marks.toggle(rows[-1].path)
    assert marks.toggle(rows[1].path) and marks.toggle(rows[-1].path)
    assert [(run.mark.letter, run.row.name) for run in marks.marked(rows)][1] == ("b", rows[-1].name)
    marks.keep([rows[0].path])
    assert marks.paths == (rows[0].path,) and rows[0].path in marks
    marks.clear()
    assert len(marks) == 0 and len(LETTERS) == len(CURVE_STYLES)


def test_the_most_important_columns_and_the_sorted_one_are_kept() -> None:
    widths = dict.fromkeys(KEPT, 10)
    assert {column.key for column in COLUMNS} == set(KEPT)
    narrow = fitted_columns(widths, 50, "-note", 2)
    assert [column.key for column in narrow.columns] == ["name", "state", "val_loss", "note"]
    assert narrow.name_width == 10, "not wider than the names"
    usual = widths | {"name": 40, "state": 11, "val_loss": 9, "created": 11}
    in_60_columns = fitted_columns(usual, 55, "-created", 2)
    assert [column.key for column in in_60_columns.columns] == ["name", "state", "val_loss", "created"]
    assert len(fitted_columns(widths, 200, "-note", 2).columns) == len(COLUMNS)


def test_damaged_run_has_no_numbers() -> None:
    damaged = row("broken", problem="no config")
    assert {cell_text(column, damaged) for column in COLUMNS if column.number} == {"–"}


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        ("short", "short", "short"),
        ("reverse-20261126-182336-fork-20261126-032804", "reverse-2026", "…fork-20261126-032804"),
        ("dropout-sweep-20261125-081030/trials/0003-dropout-0.3", "dropout-sweep", "…/0003-dropout-0.3"),
    ],
)
def test_short_name_keeps_the_trial(name: str, start: str, end: str) -> None:
    shortened = short_name(name, NAME_WIDTH)
    assert len(shortened) <= NAME_WIDTH and shortened.startswith(start) and shortened.endswith(end)
