"""The text of the strip: pages that fit it, and the bar below them that says what Enter does."""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from rich.style import Style
from rich.text import Text

from tui_lab.app.learn.guide import Guide
from tui_lab.app.learn.whole_shapes import with_whole_shapes
from tui_lab.core.lessons.facts import WINDOW
from tui_lab.core.lessons.schema import Question, Sentence
from tui_lab.core.lessons.sentence import split_sentence
from tui_lab.runs.numbers import short_number
from tui_lab.util.escape import printable

MARKUP = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]\n]+)\]\(glossary:([^)\n]*)\)")
CODE, BOLD, LINK, MUTED, RIGHT, WRONG = "bold cyan", "bold", "underline cyan", "dim", "bold green", "bold yellow"
MOST_WITH_ASK = 2
"""Paragraphs of a verdict with which the question is repeated: two choices with their reasons need its lines."""
DONE, OPEN, HERE = "●", "○", "◉"
FocusPlace = Literal["strip", "free pane", "pane", "field"]
"""Where the focus is. free pane: one that does nothing with Enter; field: of a pane."""


@dataclass(frozen=True)
class Page:
    """One page of a stage.

    asks: whether it ends with the question that is still open; takes_sentence: whether it has a field for a sentence.
    """

    text: Text
    asks: bool = False
    takes_sentence: bool = False

    def n_lines(self, width: int) -> int:
        return sum(len(textwrap.wrap(line, width)) or 1 for line in self.text.plain.split("\n"))


def marked(text: str) -> Text:
    """Return a text with `code`, **bold** and links to the glossary as styles."""
    result = Text()
    end = 0
    for match in MARKUP.finditer(text):
        result.append(text[end : match.start()])
        code, bold, link, term = match.groups()
        if link:
            meta = Style(underline=True, color="cyan", meta={"@click": f"screen.glossary({term!r})"})
            result.append(link, meta)
        else:
            result.append(code or bold, CODE if code else BOLD)
        end = match.end()
    return result.append(text[end:])


def reached_from(place: FocusPlace, right: str) -> str:
    """Return what Enter does with the keys that lead there from where the focus is."""
    match place:
        case "field":
            return right.replace("▸ Enter: next", "▸ Esc, n: next").replace("▸ Enter", "▸ Esc, Esc, Enter")
        case "pane":
            return right.replace("▸ Enter: next", "▸ n: next").replace("▸ Enter", "▸ Esc, Enter")
    return f"Esc, then {right}" if place == "free pane" and right.startswith("answer") else right


def pages(guide: Guide, width: int, most_lines: int) -> list[Page]:
    """Return the pages of the stage: blocks of text, as many on a page as fit."""
    packed: list[Page] = []
    for each in _blocks(guide):
        block = replace(each, text=with_whole_shapes(each.text, width))
        if packed:
            text = Text("\n").join([packed[-1].text, block.text])
            both = replace(block, text=text, takes_sentence=block.takes_sentence or packed[-1].takes_sentence)
            if both.n_lines(width) + _field_lines(guide, both) <= most_lines:
                packed[-1] = both
                continue
        packed += _split(block, width, most_lines)
    return packed


def _split(block: Page, width: int, most_lines: int) -> Iterator[Page]:
    """Yield a block as it is, or in parts if it does not fit a page."""
    if block.n_lines(width) <= most_lines:
        yield block
        return
    lines = block.text.split("\n")
    parts: list[Page] = [Page(lines[0])]
    for line in lines[1:]:
        longer = Page(Text("\n").join([parts[-1].text, line]))
        if longer.n_lines(width) <= most_lines:
            parts[-1] = longer
        else:
            parts.append(Page(line))
    yield from parts[:-1]
    yield replace(block, text=parts[-1].text)


def _field_lines(guide: Guide, page: Page) -> int:
    """Return how many lines the field for a number or a sentence takes."""
    question = guide.stage.question
    return 1 if page.takes_sentence or page.asks and question is not None and question.kind == "number" else 0


def _blocks(guide: Guide) -> Iterator[Page]:
    stage = guide.stage
    text = "\n".join(line for line in guide.text.split("\n") if line.strip())
    yield Page(marked(text))
    source = guide.progress.lesson.file.source
    if guide.index == 0 and source:
        yield Page(Text(f"Source: {source}", MUTED))
    if stage.question is not None:
        yield _question(guide, stage.question)
    if stage.sentence is not None:
        yield _sentence(guide, stage.sentence)
    if stage.terminal is not None:
        ask = Text("In another terminal, in this folder (y copies it for any folder):", BOLD)
        yield Page(Text("\n").join([ask, Text(guide.progress.short_command(stage), CODE)]))
    if stage.keep is not None:
        code = [Text(f"  {line}", CODE) for line in stage.keep.code.strip("\n").splitlines()]
        sentence = marked(stage.keep.sentence)
        sentence.stylize(BOLD)
        yield Page(Text("\n").join([sentence, Text(stage.keep.source, MUTED), *code]))
    if guide.done.failed_facts:
        lines = [Text("This run did not show what the text says:", WRONG), *map(Text, guide.done.failed_facts)]
        yield Page(Text("\n").join(lines))


def _question(guide: Guide, question: Question) -> Page:
    done = guide.done
    ask = Text(question.ask, BOLD)
    if question.kind == "number":
        if done.guess is None:
            return Page(ask, asks=True)
        return Page(Text("\n").join([ask, _number_verdict(guide, done.guess)]))
    if done.choice is None:
        choices = [Text.assemble((f"{i} ", CODE), choice) for i, choice in enumerate(question.choices, 1)]
        return Page(Text("\n").join([ask, *choices]), asks=True)
    verdict = list(_choice_verdict(guide, question, done.choice))
    if len(verdict) > MOST_WITH_ASK:
        return Page(Text("\n").join(verdict))
    return Page(Text("\n").join([ask, *verdict]))


def _sentence(guide: Guide, sentence: Sentence) -> Page:
    """Return the field's question, and the sentence that was typed as characters and as tokens."""
    lines = [Text(sentence.ask, BOLD)]
    if guide.done.sentence:
        split = split_sentence(guide.done.sentence)
        lines += [Text(split.characters_line), Text(split.tokens_line)]
    return Page(Text("\n").join(lines), takes_sentence=True)


def _choice_verdict(guide: Guide, question: Question, chosen: int) -> Iterator[Text]:
    """Say what was chosen; whether it is right only once what the stage starts has shown it."""
    assert question.right is not None
    answer = question.choices[chosen - 1]
    if guide.need in ("action", "wait"):
        yield Text.assemble("Your answer: ", (f"{chosen} {answer}", BOLD))
        return
    if chosen == question.right:
        yield Text.assemble(("✓ ", RIGHT), (f"{chosen} {answer}", BOLD))
    else:
        yield Text.assemble(("✗ ", WRONG), f"{chosen} {answer}")
    yield marked(question.reasons[chosen - 1])
    if chosen != question.right:
        yield Text.assemble(("✓ ", RIGHT), (f"{question.right} {question.choices[question.right - 1]}", BOLD))
        yield marked(question.reasons[question.right - 1])


def _number_verdict(guide: Guide, guess: float) -> Text:
    right = guide.right_number
    guess_text = f"Your guess: {short_number(guess)}"
    if right is None or guide.done.right is None:
        return Text(guess_text)
    mark = Text("✓ ", RIGHT) if guide.done.right else Text("✗ ", WRONG)
    question = guide.stage.question
    kind = "measured" if question is not None and question.measured is not None else "right"
    return Text.assemble(
        mark, guess_text, f" · {kind}: ", (short_number(right), BOLD), _of_mean(guide, question, right)
    )


def _of_mean(guide: Guide, question: Question | None, mean: float) -> str:
    """Return of how many losses a measured one is the mean, and the last of them, which is the one in the chart."""
    measured = None if question is None else question.measured
    last = None if measured is None or guide.current is None else guide.current.last_of_mean(measured)
    if last is None or short_number(last) == short_number(mean):
        return ""
    return f", the mean of {WINDOW} steps (the last: {short_number(last)})"


def dots(guide: Guide) -> str:
    """Return a sign for each stage: complete, not complete, or the one where the student is."""
    stages = guide.progress.lesson.stages
    return "".join(
        HERE if i == guide.index else DONE if guide.progress.of(stage.id).complete else OPEN
        for i, stage in enumerate(stages)
    )


def bar(guide: Guide, right: str, width: int) -> Text:
    """Return the line below the text: where the student is, and at its right end what happens or what Enter does."""
    stage = guide.stage
    mark = " ✓" if guide.done.complete else ""
    place = f"{guide.index + 1}/{len(guide.progress.lesson.stages)} {stage.kind}{mark}"
    lefts = (
        f" {guide.progress.lesson.title}  {dots(guide)}  {place}",
        f" {dots(guide)}  {place}",
        f" {place}",
    )
    right = printable(right)[: max(0, width - 2)]
    left = next((left for left in lefts if len(left) + len(right) + 3 <= width), "")
    gap = max(1, width - len(left) - len(right) - 1)
    return Text.assemble((left, BOLD), " " * gap, (right, BOLD), " ", no_wrap=True, overflow="ellipsis")


def enter_text(guide: Guide, page: int, shown: Sequence[Page]) -> str:
    """Return what Enter does now; empty if it does nothing."""
    need = guide.need
    if page < len(shown) - 1:
        asks = need == "question" and shown[-1].asks
        return "▸ Enter: the question" if asks else f"▸ Enter: more ({page + 1} of {len(shown)})"
    if need == "question":
        question = guide.stage.question
        assert question is not None
        n = len(question.choices)
        return f"answer with 1 to {n}" if question.kind == "choice" else "type a number, then Enter"
    if need == "action" and guide.stage.terminal is not None and guide.stage.terminal.waits_for == "run":
        return "waits for the run · n goes on without it"
    if need == "action":
        return f"▸ Enter: {guide.stage.action_text}"
    if need == "wait":
        return ""
    return "✓ end of the lesson ▸ Enter: all lessons" if guide.is_last else "▸ Enter: next"
