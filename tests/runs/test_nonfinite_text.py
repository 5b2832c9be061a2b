"""What became non-finite first, as text: what a reader needs is in it."""

from dataclasses import replace

from tests.non_finite import OVERFLOW
from tui_lab.runs.nonfinite_text import origin_lines, origin_summary


def test_lines_name_module_type_range_and_rows() -> None:
    first, second, third = origin_lines(OVERFLOW)
    assert all(part in first for part in ("layers.1.W_2 (Linear)", "addmm", "float16", "65504"))
    assert all(part in second for part in ("input 4×8", "60,000", "3 inf", "1 NaN"))
    assert all(part in third for part in ("1 of 4", "row 3", "example 71", "position 5", "to be or not"))


def test_summary_is_one_line() -> None:
    assert "\n" not in origin_summary(OVERFLOW) and "layers.1.W_2" in origin_summary(OVERFLOW)


def test_every_phase_and_cause_has_a_text() -> None:
    for phase in ("weights", "data", "forward", "loss", "backward", "norm", "sum", "unknown"):
        for cause in ("overflow", "division_by_zero", "infinity", "already", "unknown"):
            lines = origin_lines(replace(OVERFLOW, phase=phase, cause=cause, parameter="head.bias", scale=2.0, rank=1))
            assert lines[0].startswith("non-finite first: ") and "process 1" in lines[0]
