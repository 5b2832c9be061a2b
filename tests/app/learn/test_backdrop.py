"""What a lesson draws behind the curves of a run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.app.fake import ready, started, update
from tui_lab.app.panes.loss_curves import GHOST, GUESS, Backdrop, ChartView, Guess, shown_metrics
from tui_lab.app.panes.metrics import metrics_of
from tui_lab.app.panes.overlays import Overlay
from tui_lab.app.session.progress import Progress
from tui_lab.app.session.series import Series
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import Chart, Curve
from tui_lab.text.plot import Drawing, Plot


class RecordingChart(Chart):
    """Keeps what is drawn."""

    def draw(self, curves: Sequence[Curve], **options: Any) -> None:
        self.drawing = Drawing(curves, **options)


def drawn(backdrop: Backdrop) -> Drawing:
    state = LabState()
    opened = ready("confusion-3")
    for message in (opened, started(opened), update(1, 10.8), update(2, 10.7)):
        state.apply(message)
    view = ChartView(metrics_of(state)[0], "step", "zero", 0.0, (), None, backdrop)
    chart = RecordingChart()
    view.draw(chart, state, view.scale(state))
    return chart.drawing


def test_earlier_run_is_gray_and_a_guess_is_a_question_mark() -> None:
    curve = Series()
    curve.add(1, 9.0)
    curve.add(30, 8.0)
    ghost = Overlay(Path("see-1"), "see-1", {"loss": curve}, Progress())
    drawing = drawn(Backdrop(ghosts=[ghost], guesses=[Guess("loss", 60, 5.0), Guess("val_loss", 60, 1.0)]))
    assert [(each.style, each.points[-1]) for each in drawing.curves if each.background] == [(GHOST, (30, 8.0))]
    assert [(dot.x, dot.y, dot.sign, dot.style) for dot in drawing.dots] == [(60, 5.0, "?", GUESS)]


def test_guess_far_from_the_curves_is_at_the_edge_with_its_value() -> None:
    drawing = drawn(Backdrop(guesses=[Guess("loss", 2, 108.0), Guess("loss", 2, -5.0), Guess("loss", 2, 12.0)]))
    high, low, near = drawing.dots
    assert high.y == pytest.approx(10.825, abs=0.01)
    assert high.sign == "? 108"
    assert (low.y, low.sign) == (0, "? -5")
    assert (near.y, near.sign) == (12, "?")
    plot = Plot(drawing, 80, 12, None, use_braille=True)
    assert any("? 108" in "".join(row) for row in plot.chars), "its value is whole at the right edge, too"


def test_validation_loss_that_a_lesson_hides_is_no_metric() -> None:
    assert "val_loss" in [metric.key for metric in shown_metrics(LabState(), Backdrop())]
    assert "val_loss" not in [metric.key for metric in shown_metrics(LabState(), Backdrop(hides_validation=True))]


def test_lines_of_reference_are_hidden_while_they_would_answer_the_question() -> None:
    assert [reference.label for reference in drawn(Backdrop()).references] == ["ln V 10.82"]
    assert not drawn(Backdrop(hides_references=True)).references
