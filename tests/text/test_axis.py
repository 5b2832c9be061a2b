"""The ticks of a chart's axes."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.text.axis import Axis, Tick, axis_over
from tui_lab.text.plot import Curve, Drawing, Plot


def two_rows_apart(rows: int, ticks: Sequence[Tick]) -> bool:
    places = [tick.share * rows for tick in ticks]
    return all(after - before >= 2 for before, after in zip(places, places[1:], strict=False))


@given(st.floats(-1e6, 1e6, allow_nan=False), st.floats(1e-3, 1e6), st.integers(4, 60))
def test_ticks_are_evenly_spaced_and_two_rows_apart(low: float, span: float, rows: int) -> None:
    ticks = Axis(low, low + span).ticks(lambda ticks: two_rows_apart(rows, ticks))
    assert 2 <= len(ticks) <= rows // 2 + 1
    assert all(-1e-6 <= tick.share <= 1 + 1e-6 for tick in ticks)
    gaps = [after.share - before.share for before, after in zip(ticks, ticks[1:], strict=False)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3) for gap in gaps)


@pytest.mark.parametrize(
    ("axis", "rows", "labels"),
    [
        (Axis(0.1, 4.04), 9, ["1", "2", "3", "4"]),
        (Axis(0.1, 4.04), 6, ["2", "4"]),
        (Axis(2.2975, 2.3012), 12, ["2.298", "2.299", "2.300", "2.301"]),
        (Axis(0, 70_430), 8, ["0", "20,000", "40,000", "60,000"]),
        (Axis(0, 3e-8), 7, ["0", "1e-8", "2e-8", "3e-8"]),
        (Axis(0.01, 3, log=True), 18, ["0.01", "0.02", "0.05", "0.1", "0.2", "0.5", "1", "2"]),
        (Axis(0.01, 3, log=True), 8, ["0.01", "0.1", "1"]),
        (Axis(0.11, 0.14, log=True), 8, ["0.11", "0.12", "0.13", "0.14"]),
    ],
)
def test_labels_of_ticks(axis: Axis, rows: int, labels: list[str]) -> None:
    assert [tick.label for tick in axis.ticks(lambda ticks: two_rows_apart(rows, ticks))] == labels


def test_nearly_constant_values_have_different_labels_of_four_digits() -> None:
    axis = axis_over(np.array([10.824918, 10.824916]))
    assert [tick.label for tick in axis.ticks(lambda ticks: two_rows_apart(10, ticks))] == [
        "10.81", "10.82", "10.83", "10.84"
    ]  # fmt: skip


def test_axis_that_begins_near_zero_begins_at_zero() -> None:
    assert axis_over(np.array([4e-5, 30.0])) == Axis(0.0, 30.0) and axis_over(np.array([1.0, 30.0])).low == 1.0


def lines(plot: Plot) -> list[str]:
    return ["".join(line) for line in plot.chars]


@given(st.integers(1, 120_000), st.integers(1, 5_000), st.integers(12, 160), st.integers(2, 20))
def test_no_label_is_cut_and_no_two_touch(first: int, span: int, width: int, height: int) -> None:
    points = [(float(step), 1.0 / step) for step in (first, first + span)]
    drawing = Drawing([Curve("a", points, "red")], x_unit="step", y_unit="nats", whole=True)
    plot = Plot(drawing, width, height, None, use_braille=True)
    bottom = lines(plot)[-1].replace("nats", "").replace("step", "").split()
    numbers = [int(label.replace(",", "")) for label in bottom]
    assert numbers == sorted(set(numbers)) and all(first <= number <= first + span for number in numbers)
    if width >= 40:
        assert len(numbers) >= 2


def test_line_reaches_from_edge_to_edge_and_leads_to_points_that_are_not_shown() -> None:
    plot = Plot(Drawing([Curve("a", [(0, 0), (10, 10)], "red")]), 24, 11, None, use_braille=True)
    rows = [line[plot.left :] for line in lines(plot)[: plot.height]]
    assert rows[0][-1] != " " and rows[-1][0] != " "
    zoomed = Plot(Drawing([Curve("a", [(0, 0), (10, 10)], "red")]), 24, 11, (4, 6), use_braille=True)
    shown = [line[zoomed.left :] for line in lines(zoomed)[: zoomed.height]]
    assert all(set(column) != {" "} for column in zip(*shown, strict=True))


def test_labels_at_the_right_do_not_hide_each_other() -> None:
    names = ("label of a", "label of b", "label of c")
    curves = [Curve(name, [(0, 1), (10, i / 100)], "red", end=name) for i, name in enumerate(names)]
    plot = Plot(Drawing(curves), 80, 8, None, use_braille=False)
    rows = [next(row for row, line in enumerate(lines(plot)) if name in line) for name in names]
    assert rows == [6, 5, 4], "the highest value is the highest label"
    assert len(lines(Plot(Drawing(curves), 80, 3, None, use_braille=False))) == 3, "two rows have room for two labels"


def test_short_labels_of_one_line_stand_there_side_by_side() -> None:
    """A tall spike makes the ends of two curves one line, which is the place of both labels."""
    spike = [(0, 2), (8, 40), (9, 2), (10, 1.5)]
    curves = [Curve(name, spike, style, end=name) for name, style in (("train", "cyan"), ("val", "yellow"))]
    plot = Plot(Drawing(curves), 80, 12, None, use_braille=True)
    assert [row for row, line in enumerate(lines(plot)) if line.endswith("train val")] == [plot.height - 1]
    assert plot.styles[plot.height - 1][-9:] == ["cyan"] * 6 + ["yellow"] * 3
    zoomed = Plot(Drawing(curves), 80, 12, (0, 4), use_braille=True)
    assert "train val" in lines(zoomed)[zoomed.height // 2], "where the line to the spike leaves the chart"


def test_chart_without_points_says_so_and_has_no_axes() -> None:
    plot = Plot(Drawing([Curve("a", [], "red")], x_unit="step", y_unit="nats"), 40, 9, None, use_braille=True)
    assert "\n".join(lines(plot)).split() == ["no", "values", "yet"]
    assert plot.column(0.5) is None


def test_line_below_does_not_hide_another_curve_and_its_points_are_marked() -> None:
    line = [(0.0, 0.0), (50.0, 0.5), (100.0, 1.0)]
    curves = (Curve("train", line, "cyan"), Curve("val", line, "yellow", dotted=True, below=True))
    plot = Plot(Drawing(curves), 60, 12, None, use_braille=True)
    styles = [style for row in plot.styles for style in row]
    assert styles.count("yellow") == 3 and styles.count("cyan") > 30
