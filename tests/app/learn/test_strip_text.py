"""The pages of the strip and the bar below them."""

from pathlib import Path

import pytest

from tests.app.learn.test_guide import at, guide, measured, need
from tui_lab.app.learn.guide import Guide
from tui_lab.app.learn.strip_text import bar, enter_text, marked, pages, reached_from
from tui_lab.core.lessons.load import BUILTIN, find_lesson, lesson_folders, load_lesson
from tui_lab.core.lessons.progress import load_progress

WIDTH, LINES = 78, 7


def test_text_and_question_share_a_page_where_both_fit() -> None:
    small = pages(guide(), WIDTH, LINES)
    assert [page.asks for page in small] == [False, True]
    assert all(page.n_lines(WIDTH) <= LINES for page in small)
    large = pages(guide(), WIDTH, 12)
    assert [page.asks for page in large] == [True]
    assert "Enter: the question" in enter_text(guide(), 0, small)


def test_choice_is_judged_only_after_the_stage_has_shown_the_answer() -> None:
    diagnosing = at("diagnose")
    diagnosing.answer(1)
    assert "✗" not in pages(diagnosing, WIDTH, LINES)[-1].text.plain
    diagnosing.diagnosed(["double_softmax"])
    shown = pages(diagnosing, WIDTH, LINES)[-1].text.plain
    assert "✗ 1 The learning rate" in shown
    assert "✓ 3 A softmax before the cross-entropy" in shown


def test_guess_is_shown_next_to_the_right_number() -> None:
    first = guide()
    first.answer(9)
    first.run_started("see-1")
    first.update(measured(10.82), ())
    assert "✗ Your guess: 9 · right: 10.82" in pages(first, WIDTH, LINES)[-1].text.plain


def test_measured_mean_is_named_with_the_last_loss_which_the_chart_shows() -> None:
    lesson = load_lesson(find_lesson("3-it-does-not-learn"))
    third = Guide(load_progress(lesson))
    third.go_to(lesson.index("adam"))
    third.answer(10)
    third.run_started("adam-1")
    third.update(measured(*[10.7] * 59, 10.76), ())
    shown = pages(third, WIDTH, LINES)[-1].text.plain
    assert "measured: 10.71, the mean of 5 steps (the last: 10.76)" in shown
    third.update(measured(*[10.7] * 60), ())
    assert pages(third, WIDTH, LINES)[-1].text.plain.endswith("measured: 10.7")


def test_stage_that_waits_for_a_run_does_not_offer_enter_and_its_command_has_a_line() -> None:
    lesson = load_lesson(find_lesson("6-your-script"))
    sixth = Guide(load_progress(lesson))
    sixth.go_to(lesson.index("watch"))
    shown = pages(sixth, WIDTH, LINES)
    assert "Enter" not in enter_text(sixth, 0, shown)
    command = sixth.progress.short_command(sixth.stage)
    assert command in shown[0].text.plain.split("\n")
    sixth.go_to(lesson.index("again"))
    assert "Enter" in enter_text(sixth, 0, shown)


def test_links_and_code_are_styled() -> None:
    text = marked("see [ln V](glossary:ln V) in `loss.py`")
    assert text.plain == "see ln V in loss.py"
    assert [text.plain[span.start : span.end] for span in text.spans] == ["ln V", "loss.py"]


def test_bar_drops_its_title_before_its_dots_and_both_before_what_enter_does() -> None:
    first = guide()
    assert "◉○○○○○" in bar(first, "▸ Enter: train it", 80).plain
    assert bar(first, "▸ Enter: train it, and go on", 52).plain.startswith(" ◉○○○○○  1/6 see")
    narrow = bar(first, "step 27/60 · loss 10.82 · 0% of the way to 0", 60).plain
    assert narrow.endswith("0% of the way to 0 ")
    assert len(narrow) <= 60


def test_sentence_is_shown_split_and_can_be_typed_again() -> None:
    first = Guide(load_progress(load_lesson(find_lesson("2-tokens"))))
    assert need(first) == "action"
    assert [page.takes_sentence for page in pages(first, WIDTH, LINES)] == [False, True]
    first.sentence_typed("Socrates asks")
    assert need(first) == "nothing"
    last = pages(first, WIDTH, LINES)[-1]
    assert last.takes_sentence
    assert "13 characters, 10 different\n3 of GPT-2's tokens: S·ocrates·␣asks" in last.text.plain


@pytest.mark.parametrize("folder", lesson_folders(BUILTIN), ids=lambda folder: folder.name)
def test_reason_of_the_right_choice_is_shown_whatever_was_chosen(folder: Path) -> None:
    lesson = load_lesson(folder)
    for stage in lesson.stages:
        question = stage.question
        for choice in range(len(question.choices) if question is not None else 0):
            asked = Guide(load_progress(lesson))
            asked.go_to(lesson.index(stage.id))
            asked.confirmed()
            asked.answer(choice + 1)
            assert question is not None and question.right is not None
            shown = next(page for page in pages(asked, WIDTH, LINES) if "✓" in page.text.plain)
            assert question.reasons[question.right - 1] in shown.text.plain
            assert question.reasons[choice] in shown.text.plain
            assert shown.n_lines(WIDTH) <= LINES


def test_block_that_is_too_long_continues_on_the_next_page() -> None:
    keeping = at("keep")
    shown = pages(keeping, WIDTH, 3)
    assert all(page.n_lines(WIDTH) <= 3 for page in shown)
    whole = "\n".join(page.text.plain for page in shown)
    assert whole == "\n".join(page.text.plain for page in pages(keeping, WIDTH, 99))


def test_bar_tells_how_to_reach_the_lesson_from_a_pane() -> None:
    assert reached_from("strip", "▸ Enter: next") == "▸ Enter: next"
    assert reached_from("free pane", "▸ Enter: next") == "▸ Enter: next"
    assert reached_from("pane", "▸ Enter: next") == "▸ n: next"
    assert reached_from("field", "▸ Enter: next") == "▸ Esc, n: next"
    assert reached_from("pane", "▸ Enter: train it") == "▸ Esc, Enter: train it"
    assert reached_from("free pane", "answer with 1 to 4") == "Esc, then answer with 1 to 4"
