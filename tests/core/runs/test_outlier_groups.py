"""Rows that stood out are grouped by the text that they share."""

from tui_lab.core.runs.outlier_groups import grouped
from tui_lab.core.runs.outlier_rows import OutlierRow

LENGTH = 32
STRIDE = 8


def row(example: int, loss: float, step: int) -> OutlierRow:
    return OutlierRow(step=step, row=0, example=example, loss=loss, typical=1.0, n_rows=8)


def groups_of(*rows: OutlierRow, stride: int | None = STRIDE) -> list[list[int]]:
    """The examples of each group."""
    offsets = None if stride is None else {each.example: stride * each.example for each in rows}
    return [[each.example for each in group.rows] for group in grouped(rows, offsets, LENGTH)]


def test_windows_that_overlap_are_one_group_with_all_their_steps() -> None:
    rows = [row(100, 5.0, 40), row(103, 4.0, 70), row(100, 4.5, 90), row(300, 3.0, 50), row(104, 3.9, 40)]
    [first, second] = grouped(rows, {example: STRIDE * example for example in (100, 103, 104, 300)}, LENGTH)
    assert first.best == rows[0] and len(first.rows) == 4 and first.steps == [40, 70, 90]
    assert [each.example for each in second.rows] == [300]


def test_text_longer_than_a_window_is_one_group() -> None:
    assert groups_of(row(100, 5.0, 1), row(104, 4.0, 2), row(108, 4.5, 3)) == [[100, 108, 104]]


def test_rows_that_stand_out_a_little_do_not_connect_texts() -> None:
    assert groups_of(row(100, 5.0, 1), row(104, 1.5, 2), row(108, 4.5, 3)) == [[100, 104], [108]]


def test_windows_that_share_no_token_are_apart() -> None:
    assert groups_of(row(100, 5.0, 1), row(105, 5.0, 2)) == [[100], [105]]


def test_without_a_corpus_only_the_same_example_is_one_group() -> None:
    assert groups_of(row(100, 5.0, 1), row(101, 4.0, 2), row(100, 3.0, 3), stride=None) == [[100, 100], [101]]
