"""The end of the app, however it comes: what trains is stopped and saved, and the person told where."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Protocol

from tui_lab.core.runs import folder as runs
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import INTERRUPTED

if TYPE_CHECKING:
    from tui_lab.app.session.source import Source
    from tui_lab.app.session.state import LabState

GRACE_SECONDS = 30.0
"""For the step, evaluation or checkpoint under way when the training is asked to stop."""
STEPS_OF_GRACE = 10
SECONDS_TO_PAINT = 10.0
"""For the app to take itself down after all is saved; a terminal that is gone can keep it from that for ever."""
ENDING_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def grace(seconds_a_step: float | None, least: float = GRACE_SECONDS) -> float:
    """How long to wait for a training that was asked to stop, in seconds."""
    return max(least, STEPS_OF_GRACE * (seconds_a_step or 0.0))


def whereabouts(path: str | None) -> str:
    """What of a run is safe on disk, and how to go on with it."""
    if path is None:
        return "it had not begun, so there is nothing to save"
    try:
        checkpoint = runs.Run(Path(path)).latest()
    except (RunError, OSError):
        return f"no checkpoint of it was saved yet: {path}"
    step = int(checkpoint.name.removeprefix("step-").partition(".")[0])
    return f"saved is step {step:,}; go on with: tui-lab run --resume {path}"


def unanswered(path: str | None, seconds: float) -> str:
    return f"the training did not answer for {seconds:,.0f} s and was left behind; {whereabouts(path)}"


class Ongoing(Protocol):
    """A lab that is open: its source, and the folder of its run once that is known."""

    source: "Source"

    state: "LabState"

    @property
    def path(self) -> str | None: ...


def save_all(ongoing: list[Ongoing]) -> list[str]:
    """Stop and save every training; a line for each, if it had begun."""
    for lab in ongoing:
        lab.source.close()
    told = []
    for lab in ongoing:
        patience = grace(lab.state.seconds_a_step)
        answered = lab.source.join(patience)
        if lab.path is not None or not answered:
            told.append(whereabouts(lab.path) if answered else unanswered(lab.path, patience))
    return told


def say(lines: list[str]) -> None:
    """On stderr, where there still is one."""
    for line in lines:
        try:
            sys.__stderr__.write(f"tui-lab: {printable(line)}\n")  # type: ignore[union-attr]
            sys.__stderr__.flush()  # type: ignore[union-attr]
        except (OSError, ValueError, AttributeError):
            return


class Interruption:
    """SIGTERM and SIGHUP save what trains, then end the app; one whose terminal is gone is ended without it."""

    def __init__(self, ongoing: Callable[[], list[Ongoing]], leave: Callable[[], None]) -> None:
        self._ongoing, self._leave = ongoing, leave
        self._over = threading.Event()
        self.received = False

    def listen(self) -> None:
        for number in ENDING_SIGNALS:
            signal.signal(number, self._hear)

    def over(self) -> None:
        """The app has ended: there is nothing left to force."""
        self._over.set()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received = True
            # Another thread, since this one may stand where it waits for the terminal for ever.
            threading.Thread(target=self._end, name="parting", daemon=True).start()

    def _end(self) -> None:
        save_all(self._ongoing())
        self._leave()
        if not self._over.wait(SECONDS_TO_PAINT):
            os._exit(INTERRUPTED)
