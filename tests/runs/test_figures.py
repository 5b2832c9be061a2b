"""How values are written for people."""

from collections.abc import Sequence

import pytest

from tui_lab.runs.figures import setting_text
from tui_lab.util.ranges import ranges_text


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (range(100, 230), ["100–229"]),
        ([1, *range(4, 12), 20], ["1", "4–11", "20"]),
        ([1, 2, 3], []),
        ([9, 1, 2, 3, 4, 5, 6, 7, 8], []),
        ([True] * 9, []),
        ([0.5 * i for i in range(9)], []),
    ],
)
def test_long_lists_of_rising_whole_numbers_are_ranges(values: Sequence[float], expected: list[str]) -> None:
    assert ranges_text(values) == expected
    assert setting_text(list(values)).startswith(f"[{expected[0]}" if expected else f"[{values[0]}, ")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00015000000000000001, "0.00015"),
        (0.1 + 0.2, "0.3"),
        (1 / 3, "0.3333333333333333"),
        (1e-8, "1e-08"),
        (3.0, "3.0"),
    ],
)
def test_rounding_of_a_computed_setting_is_not_shown(value: float, text: str) -> None:
    assert setting_text(value) == text
