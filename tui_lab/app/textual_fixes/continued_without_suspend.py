"""Textual 8.2.8: SIGCONT without a Ctrl-Z before it starts the terminal's threads twice.

`kill -STOP` and `fg` send SIGCONT alone. Textual's handler starts its threads whenever it comes; the first pair never
ends then, nor does the program. The handler installed here resumes only what was suspended.
"""

import signal
from types import FrameType
from typing import Any

from textual.app import App


def resume_only_if_suspended(app: App[Any]) -> None:
    """Replace Textual's handler of SIGCONT; call once the app runs."""
    driver: Any = app._driver
    if not hasattr(driver, "_must_signal_resume"):
        return  # Not a driver of a Unix terminal.

    def resume(number: int, frame: FrameType | None) -> None:
        if driver._must_signal_resume:
            driver._sigcont_application()

    signal.signal(signal.SIGCONT, resume)
