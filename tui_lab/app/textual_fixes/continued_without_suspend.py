"""Textual 8.2.8: SIGCONT without a Ctrl-Z before it starts the terminal's threads twice.

`kill -STOP` and `fg` send SIGCONT alone. Textual's handler starts its threads whenever it comes; the first pair never
ends then, nor does the program. Meanwhile the shell has set the terminal to its own modes and written on the screen.
The handler installed here leaves the terminal first, as Ctrl-Z does.
"""

import asyncio
import signal
from types import FrameType
from typing import Any

from textual.app import App


def take_terminal_when_continued(app: App[Any]) -> None:
    """Replace Textual's handler of SIGCONT; call once the app runs."""
    driver: Any = app._driver
    if not hasattr(driver, "_must_signal_resume"):
        return  # Not a driver of a Unix terminal.
    loop = asyncio.get_running_loop()

    def take_again() -> None:
        if driver._auto_restart and app.is_running:
            driver.suspend_application_mode()
            driver._must_signal_resume = True  # So that the app repaints.
            driver.resume_application_mode()

    def resume(number: int, frame: FrameType | None) -> None:
        if driver._must_signal_resume:
            driver._sigcont_application()
        elif not loop.is_closed():
            # Later: the signal may have come while the driver writes.
            loop.call_soon_threadsafe(take_again)

    signal.signal(signal.SIGCONT, resume)
