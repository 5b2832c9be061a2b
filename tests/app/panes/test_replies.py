"""The replies of the generation pane: wrapped as they grow, and repainted only where they changed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from rich.text import Text
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input

from tests.app.fake import lab, update
from tui_lab.app.panes.generation import GenerationPane
from tui_lab.app.panes.replies import Replies, Reply, probability_style
from tui_lab.app.screens.paint_scheduler import MIN_PAUSE
from tui_lab.app.session.generation_thread import GenerationRequest
from tui_lab.app.session.messages import TokenGenerated
from tui_lab.core.inference.sampling import Generated


@pytest.fixture(autouse=True)
def paint_what_is_looked_at() -> None:
    """Paint every frame: tests count what is painted."""


class RepliesApp(App[None]):
    CSS = "#replies { height: 1fr; scrollbar-gutter: stable; }"

    def compose(self) -> ComposeResult:
        yield Replies("replies", lambda reply: Text("" if reply.done else "▌"))


class Watched:
    """An app with nothing but replies; records which lines are painted and how often the screen is laid out."""

    def __init__(self, pilot: Pilot[None], monkeypatch: pytest.MonkeyPatch) -> None:
        self.pilot = pilot
        self.replies = pilot.app.query_one(Replies)
        self.painted: list[int] = []
        self.layouts = 0
        self._render_line = self.replies.render_line

        def render_line(replies: Replies, y: int) -> object:
            self.painted.append(y)
            return self._render_line(y)

        monkeypatch.setattr(Replies, "render_line", render_line)
        pilot.app.screen.screen_layout_refresh_signal.subscribe(self.replies, lambda screen: self._count_layout())

    def _count_layout(self) -> None:
        self.layouts += 1

    async def show(self, *replies: Reply, selected: int | None = None) -> list[str]:
        """Show the replies and return the lines on the screen."""
        self.painted.clear()
        self.layouts = 0
        self.replies.show_replies(replies, selected)
        await self.pilot.pause()
        await self.pilot.pause()
        return [self._render_line(y).text.rstrip() for y in range(self.replies.size.height)]


@asynccontextmanager
async def watched(monkeypatch: pytest.MonkeyPatch, width: int = 20) -> AsyncIterator[Watched]:
    async with RepliesApp().run_test(size=(width + 2, 6)) as pilot:
        await pilot.pause()
        yield Watched(pilot, monkeypatch)


def token(text: str) -> Generated:
    return Generated(0, text, 0.9, ())


def reply(number: int, *texts: str, step: int = 3) -> Reply:
    return Reply(GenerationRequest(number, "Hi", 9, 0.0, 0, 1.0, 0), step, tokens=[token(text) for text in texts])


async def test_newest_reply_is_on_top_and_a_token_repaints_only_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(monkeypatch) as it:
        old = reply(1, " there")
        old.done = True
        new = reply(2, " you", step=4)
        assert (await it.show(old, new))[:3] == ["step 4 Hi you▌", "step 3 Hi there", ""]
        new.tokens.append(token(" c"))
        assert (await it.show(old, new))[0] == "step 4 Hi you c▌"
        assert it.painted == [0] and it.layouts == 0
        await it.show(old, new)
        assert it.painted == []
        new.tokens += [token(" word")] * 4
        assert (await it.show(old, new))[:3] == ["step 4 Hi you c word", "word word word▌", "step 3 Hi there"]
        assert it.layouts == 0


async def test_end_stays_in_view_while_the_reply_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(monkeypatch) as it:
        long = reply(1)
        for line in range(20):
            long.tokens.append(token(f"\nline {line}"))
            assert f"line {line}▌" in await it.show(long)
        await it.pilot.press("tab", "home")
        long.tokens.append(token("\nunseen"))
        assert (await it.show(long))[0] == "step 3 Hi", "scrolled away, it stays there"
        await it.pilot.press("end")
        assert "unseen▌" in await it.show(long)
        assert (await it.show(long, reply(2, " again")))[0] == "step 3 Hi again▌"


async def test_new_header_selection_and_width_rewrap_the_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(monkeypatch) as it:
        one = reply(1, " one", " two", " three")
        assert (await it.show(one))[0] == "step 3 Hi one two"
        one.step = 12
        one.best = True
        assert (await it.show(one))[0] == "best, step 12 Hi one"
        await it.show(one, selected=1)
        reversed_ = [segment.text for segment in it.replies.render_line(1) if segment.style and segment.style.reverse]
        assert reversed_ == ["two"]
        await it.pilot.resize_terminal(42, 6)
        await it.pilot.pause()
        assert it.replies.render_line(0).text.rstrip() == "best, step 12 Hi one two three▌"


async def test_typing_a_prompt_lays_out_nothing_and_a_reply_grows_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    async with lab(size=(200, 50)) as it:
        field = it.screen.query_one("#prompt", Input)
        await it.press("g")
        field.focus()
        await it.tell()
        laid_out: list[object] = []
        it.screen.screen_layout_refresh_signal.subscribe(it.screen, laid_out.append)
        await it.press(*"What is it")
        assert "What is it" in it.text("#prompt") and laid_out == []

        await it.tell()  # The reply is drawn now.
        it.now[0] += MIN_PAUSE - 0.1
        it.screen.on_input_changed()  # A tick of the app itself may come before the key does.
        await it.pilot.press("x")
        it.now[0] += 0.2  # Too soon for the loss chart.
        it.screen.query_one(GenerationPane).receive(TokenGenerated(1, token(" token")))
        it.source.items.append(update(31))
        charts: list[object] = []
        monkeypatch.setattr(it.screen.loss_pane, "show", lambda state, now: charts.append(now))
        it.screen.tick()
        await it.pilot.pause()
        assert " token▌" in it.text("#replies") and charts == []

        field.value = "".join(f"{n:03d}" for n in range(100))
        await it.press("end")
        assert it.text("#prompt").strip().endswith("098099")
        await it.press("home")
        assert it.text("#prompt").startswith("000001")


def test_rare_tokens_differ_without_color() -> None:
    assert probability_style(0.9) == "" and "underline" in probability_style(0.01)
