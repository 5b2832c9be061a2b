"""Which questions and sentences of a lesson are too long for the strip that shows them."""

import textwrap
from collections.abc import Iterator

from tui_lab.core.lessons.schema import COLUMNS, LessonFile, Question
from tui_lab.core.lessons.stage_text import TEXT_LINES
from tui_lab.util.errors import Problem

ASK_LINES, REASON_LINES, CHOICE_WIDTH = 2, 3, COLUMNS - 4


def question_length_problems(lesson: LessonFile) -> Iterator[Problem]:
    """Yield a problem for each text of a question or choice that does not fit the strip."""
    for stage in lesson.stages:
        if stage.question is None:
            continue
        for name, text, limit in _question_texts(stage.question):
            lines = len(textwrap.wrap(text, COLUMNS))
            if lines > limit:
                message = f"{lines} lines of {COLUMNS} characters; at most {limit} fit the strip"
                yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.question.{name}")
        for i, choice in enumerate(stage.question.choices, 1):
            if len(choice) > CHOICE_WIDTH:
                message = f"{len(choice)} characters; at most {CHOICE_WIDTH} fit a line of the strip"
                yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.question.choices.{i}")


def keep_length_problems(lesson: LessonFile) -> Iterator[Problem]:
    """Yield a problem for each sentence or line of code to keep that does not fit the strip."""
    for stage in lesson.stages:
        if stage.keep is None:
            continue
        code = stage.keep.code.strip("\n").splitlines()
        for i, line in enumerate(code, 1):
            if len(line) > COLUMNS:
                message = f"line {i} has {len(line)} characters; at most {COLUMNS} fit a line of the strip"
                yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.keep.code")
        lines = len(code) + sum(len(textwrap.wrap(text, COLUMNS)) for text in (stage.keep.sentence, stage.keep.source))
        if lines > TEXT_LINES:
            message = f"{lines} lines with its source and code; at most {TEXT_LINES} fit the strip"
            yield Problem(code="too_large", message=message, key=f"stage.{stage.id}.keep")


def _question_texts(question: Question) -> Iterator[tuple[str, str, int]]:
    yield "ask", question.ask, ASK_LINES
    for i, reason in enumerate(question.reasons, 1):
        yield f"reasons.{i}", reason, REASON_LINES
