"""A table of cells: columns that do not fit follow below, where there is room."""

from tui_lab.app.widgets.cell_grid import Cell, CellGrid
from tui_lab.app.widgets.heatmap import LETTERS, Ramp

GRID = CellGrid(["a", "b"], [("t", [str(t) for t in range(10)])], lambda row, column: Cell(f"{row}{column}"), 4)
RAMP = Ramp((), "", LETTERS)


def drawn(width: int, height: int, cursor: tuple[int, int] = (0, 0)) -> list[list[str]]:
    window = GRID.window(cursor, width, height)
    lines = GRID.draw(cursor, window, RAMP)
    assert len(lines) <= height and all(sum(part.cell_length for part in line) <= width for line in lines)
    return ["".join(part.text for part in line).split() for line in lines]


def test_columns_that_do_not_fit_follow_below() -> None:
    assert drawn(20, 11) == [
        ["t", "0", "1", "2", "3"], ["a", "00", "01", "02", "03"], ["b", "10", "11", "12", "13"], [],
        ["t", "4", "5", "6", "7"], ["a", "04", "05", "06", "07"], ["b", "14", "15", "16", "17"], [],
        ["t", "8", "9"], ["a", "08", "09"], ["b", "18", "19"],
    ]  # fmt: skip


def test_without_room_below_the_part_around_the_cursor_is_shown() -> None:
    lines = drawn(20, 6, cursor=(1, 9))
    assert len(lines) == 3 and "19" in lines[2]


def test_cell_at_a_place_is_the_one_drawn_there() -> None:
    window = GRID.window((0, 0), 20, 11)
    lines = GRID.draw((0, 0), window, RAMP)
    for y, line in enumerate(lines):
        text = "".join(part.text for part in line)
        for x in range(GRID.name_width, len(text)):
            shown = text[GRID.name_width + (x - GRID.name_width) // 4 * 4 :].split()[0]
            if line and not text.startswith("t"):
                row, column = GRID.at(x, y, window)
                assert f"{row}{column}" == shown
