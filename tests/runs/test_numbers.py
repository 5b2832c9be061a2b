"""Numbers as text."""

import pytest

from tui_lab.runs.numbers import short_number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (13.45, "13.45"),
        (10.7003, "10.70"),
        (10.7, "10.7"),
        (2.00003e-05, "2.000e-5"),
        (2e-05, "2e-5"),
        (453.02, "453.0"),
        (1234.4, "1,234"),
        (9999.7, "10,000"),
        (123456.7, "123,457"),
        (-0.25004, "-0.2500"),
        (0.0, "0"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_numbers_keep_their_width_when_they_are_rounded(value: float, text: str) -> None:
    assert short_number(value) == text
