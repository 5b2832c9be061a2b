"""The shape of a tensor stays on one line, whatever the width; the rest of the text stays as it is."""

import pytest
from rich.console import Console
from rich.text import Text

from tui_lab.app.learn.guide import Guide
from tui_lab.app.learn.strip_text import marked, pages
from tui_lab.app.learn.whole_shapes import SHAPE, with_whole_shapes
from tui_lab.core.lessons.load import find_lesson, load_lesson
from tui_lab.core.lessons.progress import load_progress


def painted(text: Text, width: int) -> list[str]:
    """The lines of a text as the terminal has them."""
    return [line.plain.rstrip() for line in text.wrap(Console(width=width), width)]


def test_shape_is_never_broken() -> None:
    text = marked("The block turns `[64, 7, 64]` into [64, 7, 16], and **each** head\nhas [B, T, d_head] of its own.")
    for width in range(14, 60):
        lines = painted(with_whole_shapes(text, width), width)
        assert sum(len(SHAPE.findall(line)) for line in lines) == 3 and max(map(len, lines)) <= width
        assert " ".join(lines).split() == text.plain.split()


def test_text_that_is_not_broken_in_a_shape_stays_as_it_is() -> None:
    text = marked("The block has `[64, 7, 64]` numbers.\n\nThe end of a text that is longer than one line.")
    assert with_whole_shapes(text, 40) == text


def test_tab_before_a_shape_is_kept() -> None:
    assert with_whole_shapes(Text("x =\ta block of [64, 7, 64]"), 20).plain == "x =\ta block of\n[64, 7, 64]"


def test_style_of_a_shape_moves_with_it() -> None:
    whole = with_whole_shapes(marked("a block of `[64, 7, 64]` numbers"), 16)
    [span] = whole.spans
    assert whole.plain[span.start : span.end] == "[64, 7, 64]" and "\n[64" in whole.plain


@pytest.mark.parametrize("width", [58, 78, 98])
def test_lesson_about_the_model_shows_whole_shapes(width: int) -> None:
    lesson = load_lesson(find_lesson("5-to-socrates"))
    shown = 0
    for stage in lesson.stages:
        guide = Guide(load_progress(lesson))
        guide.go_to(lesson.index(stage.id))
        for page in pages(guide, width, 99):
            n_shapes = len(SHAPE.findall(page.text.plain.replace("\n", " ")))
            assert sum(len(SHAPE.findall(line)) for line in painted(page.text, width)) == n_shapes
            shown += n_shapes
    assert shown > 3
