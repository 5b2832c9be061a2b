"""The cells of an example as text."""

import math

import numpy as np
import pytest

from tui_lab.app.panes.cells import CELL_WIDTH, LOSS_MARKS, NAME_WIDTH, Example, draw_cells, fit, loss_level
from tui_lab.core.config import settings
from tui_lab.core.inference.example import CellLosses
from tui_lab.core.training.task_factory import build_task
from tui_lab.data.dataset import IGNORED, Task
from tui_lab.data.loader import Ids


@pytest.fixture(scope="module")
def text_task() -> Task:
    return build_task(settings.load("socrates"))


def ids(*values: int) -> Ids:
    return np.array(values, dtype=np.int64)


def losses(*values: float) -> CellLosses:
    n = len(values)
    return CellLosses(np.array(values, np.float32), np.zeros((n, 1), np.int64), np.ones((n, 1), np.float32))


def example_of(task: Task, x: Ids, y: Ids, measured: CellLosses | None) -> Example:
    return Example(task.tokenizer, task.next_token, x, y, measured)


def test_ignored_targets_have_no_text(text_task: Task) -> None:
    lines = draw_cells(example_of(text_task, ids(1), ids(IGNORED), None), 0, 1).plain.splitlines()
    assert [line[0] for line in lines] == ["t", "x", "y"] and lines[2].split() == ["y", "–"]


def test_target_that_is_not_the_next_token_is_marked(text_task: Task) -> None:
    good = example_of(text_task, ids(1, 2, 3), ids(2, 3, 4), None)
    shifted = example_of(text_task, ids(1, 2, 3), ids(1, 3, 4), None)
    assert "≠" not in draw_cells(good, 0, 3).plain
    assert draw_cells(shifted, 0, 3).plain.count("≠") == 1 and shifted.violates_next_token(0)


def test_losses_have_marks_as_well_as_colors(text_task: Task) -> None:
    example = example_of(text_task, ids(1, 2, 3, 4), ids(2, 3, 4, 5), losses(0.1, 1.0, 3.0, 6.0))
    line = draw_cells(example, 0, 4).plain.splitlines()[2]
    marks = [line[NAME_WIDTH + i * CELL_WIDTH + CELL_WIDTH - 2] for i in range(4)]
    assert marks == list(LOSS_MARKS)


def test_rows_hold_as_many_cells_as_fit(text_task: Task) -> None:
    example = example_of(text_task, ids(*range(5)), ids(*range(1, 6)), None)
    assert len(draw_cells(example, 0, 2).plain.splitlines()) == 9


def test_fit_is_one_cell_wide_and_loss_level_is_bounded() -> None:
    assert all(len(fit("x" * n, "≠")) == CELL_WIDTH for n in (0, 5, 7, 8, 30))
    assert [loss_level(loss) for loss in (math.nan, 0.0, 1.0, 3.0, math.inf)] == [0, 0, 1, 2, 3]
