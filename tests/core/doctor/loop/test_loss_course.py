"""The course of the losses as text: what is averaged, and since when a loss is not finite."""

import math

import pytest

from tui_lab.core.doctor.loop.loss_course import LossCourse, course_text

NAN = math.nan


def text(*values: float) -> str:
    return course_text(LossCourse("train.py:1", tuple(range(len(values))), values))


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ([4.0 - 0.1 * i for i in range(40)], ("3.85 → 0.25", "first and the last 4")),
        ([3.0, 2.0, 1.5, NAN, NAN], ("3, ", "nan from update 4 on", "after 1.5")),
        ([3.0, 2.0], ("2.5 (mean of 2)",)),
        ([3.0], ("3",)),
        ([NAN, NAN, NAN], ("nan from update 1 on",)),
        ([3.0, 2.0, math.inf, NAN], ("inf from update 3 on", "after 2")),
        ([3.0, 3.0, 3.0, NAN, 1.0, 1.0, 1.0], ("3 → 1", "1 other")),
    ],
)
def test_course(values: list[float], parts: tuple[str, ...]) -> None:
    shown = text(*values)
    assert [part for part in parts if part not in shown] == []
