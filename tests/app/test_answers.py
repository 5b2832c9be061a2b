"""The answers of the generation console: broken into lines as they grow, and painted where they changed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input

from tests.app.fake import lab, update
from tui_lab.app.panes.answers import Answer, Answers
from tui_lab.app.panes.generation import GenerationPane
from tui_lab.app.session.generation_thread import Request
from tui_lab.app.session.messages import TokenGenerated
from tui_lab.app.textual_fixes.wrap_keeps_spaces import wrapped
from tui_lab.app.widgets.streaming_wrap import Flow
from tui_lab.core.inference.sampling import Generated

TOKENS = st.text(alphabet="abé汉 \n", max_size=8)


@given(st.lists(TOKENS, max_size=30), st.integers(2, 12), st.lists(st.integers(0, 30), max_size=4))
def test_lines_hold_what_was_said_and_keep_to_the_width(tokens: list[str], width: int, cuts: list[int]) -> None:
    flow = Flow(width)
    for begin, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(tokens)], strict=True):
        flow.extend((token, "") for token in tokens[begin:end])
    lines = [line.plain for line in flow.lines(Text("!"))]
    assert "".join(lines) == "".join([*tokens, "!"]).replace("\n", "")
    assert all(cell_len(line.rstrip(" ")) <= width for line in lines)


WORDS = st.lists(st.tuples(st.text(alphabet="abc", min_size=1, max_size=4), st.sampled_from(" \n")), max_size=40)


@given(WORDS, st.integers(4, 20), st.integers(1, 7))
def test_what_grows_is_broken_as_the_whole_is(words: list[tuple[str, str]], width: int, size: int) -> None:
    text = "".join(word + after for word, after in words)
    flow = Flow(width)
    for at in range(0, len(text), size):
        flow.extend([(text[at : at + size], "")])
    assert [line.plain for line in flow.lines(Text())] == [line.plain for line in wrapped(Text(text), width)]


def test_styles_stay_on_their_tokens() -> None:
    flow = Flow(6)
    flow.extend([("one ", "bold"), ("two", "yellow"), (" three", "")])
    styled = [(line.plain[s.start : s.end], s.style) for line in flow.lines(Text("▌", "dim")) for s in line.spans]
    assert styled == [("one ", "bold"), ("two", "yellow"), ("▌", "dim")]


class Saying(App[None]):
    CSS = "#answers { height: 1fr; scrollbar-gutter: stable; }"

    def compose(self) -> ComposeResult:
        yield Answers("answers", lambda answer: Text("" if answer.done else "▌"))


class Watched:
    """An app with nothing but answers, whose lines are counted as they are painted."""

    def __init__(self, pilot: Pilot[None], monkeypatch: pytest.MonkeyPatch) -> None:
        self.pilot, self.answers = pilot, pilot.app.query_one(Answers)
        self.painted: list[int] = []
        self.layouts = 0
        self.line = self.answers.render_line

        def render_line(answers: Answers, y: int) -> object:
            self.painted.append(y)
            return self.line(y)

        monkeypatch.setattr(Answers, "render_line", render_line)
        pilot.app.screen.screen_layout_refresh_signal.subscribe(self.answers, lambda screen: self._laid_out())

    def _laid_out(self) -> None:
        self.layouts += 1

    async def show(self, *answers: Answer, chosen: int | None = None) -> list[str]:
        self.painted.clear()
        self.layouts = 0
        self.answers.show(answers, chosen)
        await self.pilot.pause()
        await self.pilot.pause()
        return [self.line(y).text.rstrip() for y in range(self.answers.size.height)]


@asynccontextmanager
async def saying(monkeypatch: pytest.MonkeyPatch, width: int = 20) -> AsyncIterator[Watched]:
    async with Saying().run_test(size=(width + 2, 6)) as pilot:
        await pilot.pause()
        yield Watched(pilot, monkeypatch)


def said(n: int, *words: str, step: int = 3) -> Answer:
    made = [Generated(0, word, 0.9, ()) for word in words]
    return Answer(Request(n, "Hi", 9, 0.0, 0, 1.0, 0), step, made=made)


async def test_the_newest_is_on_top_and_earlier_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saying(monkeypatch) as it:
        old = said(1, " there")
        old.done = True
        assert (await it.show(old, said(2, " you", step=4)))[:3] == ["step 4 Hi you▌", "step 3 Hi there", ""]


async def test_a_token_paints_its_line_and_lays_out_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saying(monkeypatch) as it:
        old, new = said(1, " there"), said(2, " a b")
        await it.show(old, new)
        new.made.append(Generated(0, " c", 0.9, ()))
        assert (await it.show(old, new))[0] == "step 3 Hi a b c▌"
        assert it.painted == [0] and it.layouts == 0
        await it.show(old, new)
        assert it.painted == []


async def test_a_further_line_moves_those_below(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saying(monkeypatch) as it:
        old, new = said(1, " there"), said(2)
        await it.show(old, new)
        new.made += [Generated(0, " word", 0.9, ())] * 4
        lines = await it.show(old, new)
        assert lines[:3] == ["step 3 Hi word word", "word word▌", "step 3 Hi there▌"]
        assert it.layouts == 0


async def test_who_sees_the_end_sees_it_grow_and_who_reads_on_is_left_there(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saying(monkeypatch) as it:
        answer = said(1)
        for line in range(20):
            answer.made.append(Generated(0, f"\nline {line}", 0.9, ()))
            lines = await it.show(answer)
            assert f"line {line}▌" in lines
        await it.pilot.press("tab", "home")
        answer.made.append(Generated(0, "\nunseen", 0.9, ()))
        assert (await it.show(answer))[0] == "step 3 Hi"
        await it.pilot.press("end")
        assert "unseen▌" in await it.show(answer)
        assert (await it.show(answer, said(2, " again")))[0] == "step 3 Hi again▌"
        assert it.answers.vertical_scrollbar.window_virtual_size == 27  # 23 lines, to a half page, and one more.


async def test_a_step_told_later_a_choice_and_another_width_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with saying(monkeypatch) as it:
        answer = said(1, " one", " two", " three")
        assert (await it.show(answer))[0] == "step 3 Hi one two"
        answer.step, answer.best = 12, True
        assert (await it.show(answer))[0] == "best, step 12 Hi one"
        await it.show(answer, chosen=1)
        reversed_ = [segment.text for segment in it.answers.render_line(1) if segment.style and segment.style.reverse]
        assert reversed_ == ["two"]
        await it.pilot.resize_terminal(42, 6)
        await it.pilot.pause()
        assert it.answers.render_line(0).text.rstrip() == "best, step 12 Hi one two three▌"


async def test_what_a_key_writes_does_not_lay_out_the_screen() -> None:
    async with lab(size=(200, 50)) as it:
        it.screen.query_one("#prompt", Input).focus()
        await it.tell()
        laid_out: list[object] = []
        it.screen.screen_layout_refresh_signal.subscribe(it.screen, laid_out.append)
        await it.press(*"What is it")
        assert it.screen.query_one("#prompt", Input).value.endswith("What is it")
        assert "What is it" in it.text("#prompt")
        assert laid_out == []


async def test_a_long_prompt_can_be_written_and_its_beginning_seen_again() -> None:
    async with lab(size=(80, 24)) as it:
        await it.press("4")
        box = it.screen.query_one("#prompt", Input)
        box.value = ""
        text = "".join(f"{n:03d}" for n in range(100))
        await it.press(*text)
        assert it.text("#prompt").strip().endswith("098099")
        await it.press("home")
        assert it.text("#prompt").startswith("000001")


async def test_an_answer_grows_while_somebody_types(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab(size=(200, 50)) as it:
        await it.press("g")
        pane = it.screen.query_one(GenerationPane)
        it.screen.query_one("#prompt", Input).focus()
        await it.pilot.press("x")
        it.now[0] += 0.2  # The chart of loss would wait for some seconds yet.
        pane.hear(TokenGenerated(1, Generated(0, " token", 0.9, ())))
        it.source.items.append(update(31))
        charts: list[object] = []
        monkeypatch.setattr(it.screen.loss_pane, "show", lambda state, now: charts.append(now))
        it.screen.tick()
        await it.pilot.pause()
        assert " token▌" in it.text("#answers") and charts == []


async def test_what_the_speaker_tells_is_shown() -> None:
    async with lab(size=(200, 50)) as it:
        await it.press("g")
        pane = it.screen.query_one(GenerationPane)
        for number in range(1, 41):
            pane.hear(TokenGenerated(1, Generated(0, f" word{number}", 0.9, ())))
        await it.tell()
        assert "word1 word2" in it.text("#answers") and "word40▌" in it.text("#answers")
