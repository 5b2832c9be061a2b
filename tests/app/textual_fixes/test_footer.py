"""The line of keys shows what can be pressed now, and stays as it is for as long as that does."""

import asyncio
from typing import ClassVar

from textual import events
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.pilot import Pilot
from textual.widgets import Button
from textual.widgets._footer import FooterKey

from tests.app.fake import lab
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.core import events as ev


class Other(Button):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("o", "other", "Other"), Binding("h", "other", show=False)]

    def action_other(self) -> None: ...


class Keyed(App[None]):
    BINDINGS: ClassVar[list[BindingType]] = [Binding("g", "go", "Go")]
    allowed: bool | None = True

    def compose(self) -> ComposeResult:
        yield Button(id="one")
        yield Button(id="two")
        yield Other(id="other")
        yield KeyLine()

    def action_go(self) -> None: ...

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self.allowed if action == "go" else True


async def keys(pilot: Pilot[None]) -> list[FooterKey]:
    """The keys shown once the screen has been painted, which is when they follow."""
    painted = asyncio.Event()
    await pilot.pause()
    pilot.app.screen.query_one(KeyLine).call_after_refresh(painted.set)
    await painted.wait()
    return list(pilot.app.screen.query(FooterKey))


def names(of: list[FooterKey]) -> set[str]:
    return {key.description for key in of}


async def test_the_keys_follow_the_focus_and_stay_where_they_are_the_same() -> None:
    async with Keyed().run_test() as pilot:
        one = await keys(pilot)
        assert names(one) == {"Go"}
        await pilot.press("tab")
        assert await keys(pilot) == one, "the same keys, not others that look the same"
        await pilot.press("tab")
        assert names(await keys(pilot)) == {"Go", "Other"}
        await pilot.press("shift+tab")
        assert names(await keys(pilot)) == {"Go"}


async def test_a_key_that_is_disabled_is_shown_so_and_one_that_does_not_apply_is_not() -> None:
    app = Keyed()
    async with app.run_test() as pilot:
        assert [key.has_class("-disabled") for key in await keys(pilot)] == [False]
        app.allowed = None
        app.screen.refresh_bindings()
        assert [key.has_class("-disabled") for key in await keys(pilot)] == [True]
        app.allowed = False
        app.screen.refresh_bindings()
        assert await keys(pilot) == []


async def test_the_lab_keeps_its_keys_from_pane_to_pane() -> None:
    async with lab() as it:
        before = list(it.screen.query(FooterKey))
        await it.press("tab")
        assert before and list(it.screen.query(FooterKey)) == before


async def test_the_keys_follow_the_run_while_the_terminal_has_no_focus() -> None:
    async with lab() as it:
        it.pilot.app.post_message(events.AppBlur())
        await it.pilot.pause()
        assert "Pause" in names(await keys(it.pilot))
        await it.tell(ev.Stopped(step=30, reason="done"))
        assert "Pause" not in names(await keys(it.pilot))


async def test_a_line_that_is_gone_meanwhile_asks_for_no_keys() -> None:
    async with Keyed().run_test() as pilot:
        assert await keys(pilot)
        line = pilot.app.screen.query_one(KeyLine)
        await line.remove()
        await line.recompose()
        assert not pilot.app.screen.query(FooterKey)
