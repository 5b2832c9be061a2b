"""The cells of examples as text."""

import math

import numpy as np
import pytest

from tests.app.contrast import contrast
from tui_lab.app.panes.cells import (
    DARK_LOSS_STYLES,
    LIGHT_LOSS_STYLES,
    LOSS_MARKS,
    MAX_TOKEN_WIDTH,
    NAME_WIDTH,
    Example,
    LossStyle,
    by_loss,
    cell_rows,
    draw_row,
    loss_level,
    shortened,
    title_line,
)
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


def example_of(task: Task, x: Ids, y: Ids, measured: CellLosses | None, row: int = 0) -> Example:
    return Example(task.tokenizer, task.next_token, x, y, measured, row, f"example {row}")


def drawn(example: Example, width: int = 80) -> tuple[str, str]:
    """Return the lines x and y of an example that fits into one row."""
    [row] = cell_rows(example, width)
    x, y = draw_row(example, row, None, DARK_LOSS_STYLES)
    return x.plain, y.plain


def test_ignored_targets_have_no_text(text_task: Task) -> None:
    _, y = drawn(example_of(text_task, ids(1), ids(IGNORED), None))
    assert y.split() == ["y", "–"]


def test_target_that_is_not_the_next_token_is_marked(text_task: Task) -> None:
    good = example_of(text_task, ids(1, 2, 3), ids(2, 3, 4), None)
    shifted = example_of(text_task, ids(1, 2, 3), ids(1, 3, 4), None)
    assert "≠" not in drawn(good)[1]
    assert drawn(shifted)[1].count("≠") == 1 and shifted.violates_next_token(0)


def test_ignored_targets_are_not_marked_as_another_token(text_task: Task) -> None:
    prompt_ignored = example_of(text_task, ids(1, 2, 3), ids(IGNORED, IGNORED, 4), None)
    assert "≠" not in drawn(prompt_ignored)[1]


def test_losses_have_marks_as_well_as_colors(text_task: Task) -> None:
    example = example_of(text_task, ids(1, 2, 3, 4), ids(2, 3, 4, 5), losses(0.1, 1.0, 3.0, 6.0))
    _, y = drawn(example)
    ends = np.cumsum([cell.width for cell in cell_rows(example, 80)[0]])
    assert [y[NAME_WIDTH + end - 1] for end in ends] == list(LOSS_MARKS)


def test_x_stands_over_y_and_cells_are_as_wide_as_their_tokens() -> None:
    task = build_task(settings.load("pseudo-socrates"))
    tokens = task.tokenizer.encode("I, Socrates, 蘇格拉底 know nothing")
    example = example_of(task, tokens[:-1], tokens[1:], None)
    for row in cell_rows(example, 60):
        assert sum(cell.width for cell in row) <= 60
        x, y = draw_row(example, row, None, DARK_LOSS_STYLES)
        assert x.cell_len == y.cell_len
    assert len({cell.width for row in cell_rows(example, 60) for cell in row}) > 2


def test_every_position_is_in_one_row(text_task: Task) -> None:
    example = example_of(text_task, ids(*range(9)), ids(*range(1, 10)), None)
    for width in (1, 4, 7, 100):
        assert [cell.t for row in cell_rows(example, width) for cell in row] == list(range(9))


def test_title_ends_with_the_mean_loss_of_the_targets_that_count(text_task: Task) -> None:
    example = example_of(text_task, ids(1, 2, 3), ids(2, IGNORED, 4), losses(1.0, math.nan, 2.0))
    assert example.mean_loss == 1.5
    for width in (24, 40):
        line = title_line(example, width, selected=True)
        assert line.cell_len == width and line.plain.endswith("1.500")


def test_examples_by_loss_begin_with_the_largest_and_end_with_those_not_measured(text_task: Task) -> None:
    measured = [None, losses(1.0), losses(3.0), None, losses(2.0)]
    examples = [example_of(text_task, ids(1), ids(2), each, row) for row, each in enumerate(measured)]
    assert [example.row for example in by_loss(examples)] == [2, 4, 1, 0, 3]


@pytest.mark.parametrize("styles", [DARK_LOSS_STYLES, LIGHT_LOSS_STYLES])
def test_text_of_a_loss_is_readable(styles: tuple[LossStyle, ...]) -> None:
    for style in styles:
        text, cell = style.text.split(" on ")
        assert contrast(text, cell) >= 4.5


def test_long_tokens_are_cut_and_loss_level_is_bounded() -> None:
    assert all(len(shortened("x" * n)) == min(n, MAX_TOKEN_WIDTH) for n in (0, 5, 14, 15, 30))
    assert [loss_level(loss) for loss in (math.nan, 0.0, 1.0, 3.0, math.inf)] == [0, 0, 1, 2, 3]
