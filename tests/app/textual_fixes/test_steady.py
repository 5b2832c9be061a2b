"""A screen that is told to go twice at once goes once, and of two new sizes the last one stays."""

from collections.abc import Callable

import pytest
from textual.events import Callback, Resize
from textual.geometry import Size
from textual.screen import Screen

from tui_lab.app.app import LabApp
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.runs import RunsScreen
from tui_lab.app.textual_fixes.choices import Palette

CHOICES = (Choice("yes", "Yes"), Choice("no", "No"))


@pytest.mark.parametrize("made", [RunsScreen, Palette, lambda: Help("chooser"), lambda: AskLine("name", "")])
async def test_it_takes_nothing_with_it(made: Callable[[], Screen[None]]) -> None:
    async with LabApp().run_test() as pilot:
        below, screen = pilot.app.screen, made()
        await pilot.app.push_screen(screen)
        screen.dismiss(None)
        screen.dismiss(None)
        await pilot.pause()
        assert pilot.app.screen is below


async def test_the_first_answer_counts() -> None:
    async with LabApp().run_test() as pilot:
        answers: list[str | None] = []

        async def ask() -> None:
            answers.append(await pilot.app.push_screen_wait(Ask("Really?", CHOICES)))

        pilot.app.run_worker(ask())
        await pilot.pause()
        asked = pilot.app.screen
        assert isinstance(asked, Ask)
        asked.dismiss("yes")
        asked.dismiss(None)
        await pilot.app.workers.wait_for_complete()
        assert answers == ["yes"]


async def test_two_sizes_at_once_come_to_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    laid_out: list[Size | None] = []
    refresh_layout = Screen._refresh_layout

    def counted(self: Screen[object], size: Size | None = None, scroll: bool = False) -> None:
        laid_out.append(size)
        assert len(laid_out) < 300, "it never comes to rest"
        refresh_layout(self, size, scroll)

    monkeypatch.setattr(Screen, "_refresh_layout", counted)
    async with LabApp().run_test(size=(80, 24)) as pilot:
        stale, now = Size(74, 57), Size(100, 30)
        pilot.app._size = now
        for screen in pilot.app.screen_stack:
            # Textual takes the later of two that follow each other at once: another message keeps them apart.
            screen.post_message(Resize(stale, stale))
            screen.post_message(Callback(callback=lambda: None))
            screen.post_message(Resize(now, now))
        await pilot.pause()
        assert {screen.size for screen in pilot.app.screen_stack} == {now}
        assert now in laid_out and stale not in laid_out
