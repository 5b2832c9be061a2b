"""The hand-in of a lesson: answers, curves, and nothing that a browser would run."""

from pathlib import Path

import pytest

from tests.command_line import CliError, RunCli
from tests.core.lessons.example import LESSON, TEXT, write
from tests.core.recorded import recorded
from tests.report.test_report import EVIL, Page
from tui_lab.core.lessons.load import load_lesson
from tui_lab.core.lessons.progress import Progress, load_progress
from tui_lab.core.lessons.sentence import split_sentence
from tui_lab.report.lesson_report import lesson_report


def taken(folder: Path) -> Progress:
    """A lesson with two answers, a run, two trials and a fix."""
    progress = load_progress(load_lesson(folder))
    for stage, trial in (("see", None), ("try", 1), ("try", 2), ("fix", None)):
        run = recorded(progress.new_run_folder(stage, trial))
        if trial is None:
            progress.of(stage).run = run.name
        else:
            progress.of(stage).trials.append(run.name)
        progress.of(stage).complete = True
    progress.of("predict").guess = 2.5
    progress.of("predict").right = False
    progress.of("diagnose").choice = 2
    progress.of("diagnose").right = True
    progress.of("diagnose").finding = "double_softmax"
    progress.go_to("keep")
    progress.save()
    return progress


@pytest.mark.usefixtures("both_widths")
def test_page_shows_answers_and_curves(tmp_path: Path) -> None:
    source = lesson_report(taken(write(tmp_path / "rates")))
    page = Page(source)
    assert not page.open and not page.requests and "script" not in page.tags
    shown = [
        "3 of 6", "2 of 2", "1 of 2", "a notebook", "Predict ln V.", "My answer: 2.5", "wrong", "my answer",
        "So it is.", "double_softmax", "lr 0.1", "the run before", "this run", "optimizer.step()",
    ]  # fmt: skip
    assert [text for text in shown if text not in page.text] == []
    # A chart of the first run, the trials and the fix, each for wide and for narrow screens.
    assert source.count("<figure>") == 3 and source.count("<svg") == 6


def test_sentence_is_shown_split(tmp_path: Path) -> None:
    keep = 'id = "keep"\nsentence = { ask = "Type a sentence" }'
    progress = load_progress(load_lesson(write(tmp_path / "rates", LESSON.replace('id = "keep"', keep))))
    progress.of("keep").sentence = "Socrates asks"
    page = Page(lesson_report(progress))
    split = split_sentence("Socrates asks")
    assert split.characters_line in page.text and split.tokens_line in page.text


def test_lesson_that_was_left_can_be_handed_in(tmp_path: Path) -> None:
    progress = load_progress(load_lesson(write(tmp_path / "rates")))
    progress.go_to("see")
    page = Page(lesson_report(progress))
    assert not page.open and "Not answered." in page.text and "0 of 6" in page.text


def test_nothing_of_a_lesson_is_markup(tmp_path: Path) -> None:
    evil = EVIL.replace("\x1b", "")
    lesson = LESSON.replace("What is it?", evil).replace("A rate is a factor.", evil).replace("lr 0.1", evil)
    page = Page(lesson_report(taken(write(tmp_path / "rates", lesson, TEXT.replace("See it.", evil)))))
    assert not page.open and not page.requests and "script" not in page.tags


def test_export_writes_the_page(tmp_path: Path, run_cli: RunCli) -> None:
    taken(write(tmp_path / "rates"))
    result = run_cli("learn", "rates", "--export", "ada.html")
    assert result.code == 0 and "Rates" in (tmp_path / "ada.html").read_text("utf-8")


@pytest.mark.parametrize(("to", "code"), [("ada.html", "not_found"), ("ada.txt", "invalid")])
def test_export_needs_a_started_lesson_and_an_html_file(
    tmp_path: Path, cli_error: CliError, to: str, code: str
) -> None:
    write(tmp_path / "rates")
    assert cli_error("learn", "rates", "--export", to).code == code
