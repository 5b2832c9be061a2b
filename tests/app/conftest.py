"""Tests of the app wait in short turns, and paint only what they look at and their last screen.

Textual's own pace and a paint of every frame took more than half of their time.
"""

import asyncio
import time

import pytest
from textual.app import App
from textual.geometry import Region
from textual.notifications import Notification
from textual.pilot import Pilot, WaitForScreenTimeout
from textual.screen import Screen
from textual.strip import Strip
from textual.widgets import DataTable

SECONDS_BETWEEN_UPDATES = 1 / 120
SECONDS_OF_A_TURN = 1 / 100
"""Longer than between two updates, and than the 1/120 s after which Textual resizes its screens: both lead to more."""
MAX_TURNS = 100
BUSY = 0.05
"""The fraction of a core from which on the process counts as busy, as for Textual."""


async def wait_for_idle(min_sleep: float = 0.0, max_sleep: float = 1.0) -> None:
    """Wait until no callback is ready and no thread works.

    Textual only looks at the time of the process, which on a busy machine also stands still before the work is done.
    """
    loop = asyncio.get_running_loop()
    for _ in range(MAX_TURNS):
        spent = time.process_time()
        await asyncio.sleep(SECONDS_OF_A_TURN)
        is_busy = time.process_time() - spent >= BUSY * SECONDS_OF_A_TURN
        if not is_busy and not loop._ready:  # type: ignore[attr-defined]
            return


MAX_ROUNDS = 100_000
"""Of the event loop, until the messages of all widgets must be handled."""


async def wait_for_messages(pilot: Pilot[object], timeout: float = 30.0) -> bool:
    """Wait until all widgets have handled their messages. Returns False if the app has raised an error meanwhile.

    Textual sends each of the lab's 85 widgets a message and waits for the last: a third of what a key press cost.
    """
    loop = asyncio.get_running_loop()
    for _ in range(MAX_ROUNDS):
        if pilot.app._exception is not None:
            return False
        await asyncio.sleep(0)
        if not loop._ready:  # type: ignore[attr-defined]
            return True
    raise WaitForScreenTimeout("messages lead to further messages without an end")


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait as long as it takes until the app is idle, and hardly longer."""
    monkeypatch.setattr("textual.screen.UPDATE_PERIOD", SECONDS_BETWEEN_UPDATES)
    monkeypatch.setattr("textual.app.wait_for_idle", wait_for_idle)
    monkeypatch.setattr("textual.pilot.wait_for_idle", wait_for_idle)
    monkeypatch.setattr(Pilot, "_wait_for_screen", wait_for_messages)


@pytest.fixture(autouse=True)
def no_drawn_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """End after an error without Textual's traceback with all variables, which took seconds; the test raises it."""
    monkeypatch.setattr(App, "_fatal_error", App._close_messages_no_wait)


@pytest.fixture(autouse=True)
def toasts_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep all toasts: on a busy machine, one may have expired before a test looks for it."""
    monkeypatch.setattr(Notification, "has_expired", False)


def blank_lines(table: DataTable[object], crop: Region) -> list[Strip]:
    return [Strip.blank(crop.width)] * crop.height


@pytest.fixture(autouse=True)
def paint_what_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collect what has to be painted, as a slow terminal does, and paint it before the app closes.

    A screenshot and `tests.app.fake.painted` paint the whole screen. The last screen is painted without its tables,
    which only Textual draws: they took two fifths of that time.
    """
    paint = Screen._compositor_refresh
    close = App._shutdown

    def collect(screen: Screen[object]) -> None:
        if screen is screen.app.screen:
            screen._dirty_widgets.clear()  # The compositor keeps their regions.
            screen.app._update_mouse_over(screen)
        else:
            paint(screen)

    async def paint_and_close(app: App[object]) -> None:
        try:
            if app._running and app._screen_stack:
                with monkeypatch.context() as last:
                    last.setattr(DataTable, "render_lines", blank_lines)
                    paint(app.screen)
        finally:
            await close(app)

    monkeypatch.setattr(Screen, "_compositor_refresh", collect)
    monkeypatch.setattr(App, "_shutdown", paint_and_close)
