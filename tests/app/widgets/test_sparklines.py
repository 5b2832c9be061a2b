"""Sparklines: a curve for each metric, with its numbers."""

import pytest
from rich.text import Text
from textual.app import App, ComposeResult

from tui_lab.app.widgets.sparklines import Row, Sparklines

LONG = [(1.0, -0.0002892), (2.0, 123_456_789.0), (3.0, -0.0002892)]


class Rows(App[None]):
    def compose(self) -> ComposeResult:
        yield Sparklines("sparks")


@pytest.mark.parametrize("width", [20, 34, 60, 71, 72, 120])
async def test_long_numbers_are_whole_and_apart_from_the_curve(width: int) -> None:
    app = Rows()
    async with app.run_test(size=(width, 10)):
        sparks = app.query_one(Sparklines)
        sparks.show_rows([Row("a", "Δw / w", LONG), Row("b", "loss", [(1.0, 1.0), (3.0, 2.0)])], "a", 4)
        shown = sparks.render()
        assert isinstance(shown, Text)
        lines = shown.plain.split("\n")
        assert all(len(line) <= width for line in lines) and len(lines) == (1 if width >= 72 else 2)
        assert " -2.892e-4" in lines[0] or " -0.0002892" in lines[0]
        assert ("…123,456,789" in lines[0]) == (60 <= width < 72)


async def test_value_of_an_earlier_step_is_dim() -> None:
    app = Rows()
    async with app.run_test(size=(60, 10)):
        sparks = app.query_one(Sparklines)
        sparks.show_rows([Row("a", "a", [(1.0, 7.5)], is_old=True), Row("b", "b", [(2.0, 8.5)])], "b", 4)
        shown = sparks.render()
        assert isinstance(shown, Text)
        dim = [shown.plain[span.start : span.end].strip() for span in shown.spans if span.style == "dim"]
        assert "7.5" in dim and "8.5" not in dim
