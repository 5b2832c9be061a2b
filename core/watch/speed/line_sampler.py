"""Which lines of a script take its time: a thread looks every few milliseconds where the training thread is.

No function is traced, so that the script runs at its own speed.
"""

import queue
import sys
import threading
import time
from collections import Counter
from types import FrameType
from typing import NamedTuple

from tui_lab.core.user_code.shown_file import shown_file
from tui_lab.core.user_code.user_files import is_own_code, is_user_code
from tui_lab.core.watch.variables.frames import with_callers

INTERVAL = 0.004
"""Seconds between two looks."""
SWITCH_INTERVAL = 0.0002
"""Seconds after which the interpreter lets a look take its turn. With its own 0.005, lines of Python count less."""
_NOT_NAMED = (f"{sys.base_prefix}/lib", "/torch/", "<")
"""Parts of the files of functions that are not named: those of Python and torch."""
_COMPILED = "torchinductor_"
"""A part of the folder in which torch.compile writes its code."""


class Line(NamedTuple):
    """place: FILE:LINE of the innermost code of the user, or "". function: of a library that it calls, or ""."""

    place: str
    function: str


class LineSampler:
    """Samples the thread that calls `start`, until `stop`."""

    def __init__(self) -> None:
        self._end = threading.Event()
        self._result: queue.SimpleQueue[Counter[Line]] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._switch_interval = 0.0

    def start(self) -> None:
        """Begin to sample."""
        self._switch_interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH_INTERVAL)
        arguments = (threading.get_ident(), self._end, self._result)
        self._thread = threading.Thread(target=_sample, args=arguments, name="line sampler", daemon=True)
        self._thread.start()

    def stop(self) -> "Counter[Line]":
        """Return the seconds of each line since `start`; a second call returns none."""
        if self._thread is None:
            return Counter()
        sys.setswitchinterval(self._switch_interval)
        self._end.set()
        self._thread.join()
        self._thread = None
        self._end = threading.Event()
        return self._result.get()


def line_of(frame: FrameType | None) -> Line:
    """Return the line at which a thread is. frame: its innermost."""
    function = ""
    for each in with_callers(frame):
        file = each.f_code.co_filename
        if is_user_code(file) and _COMPILED not in file:
            return Line(f"{shown_file(file)}:{each.f_lineno}", function)
        if not function and not any(part in file for part in (*_NOT_NAMED, _COMPILED)) and not is_own_code(file):
            function = each.f_code.co_qualname
    return Line("", function)


def _sample(thread: int, end: threading.Event, result: "queue.SimpleQueue[Counter[Line]]") -> None:
    """Count the time until each look for the line that is seen then: a look may have to wait for the interpreter."""
    seconds: Counter[Line] = Counter()
    before = time.perf_counter()
    has_ended = False
    while not has_ended:
        has_ended = end.wait(INTERVAL)
        line = line_of(sys._current_frames().get(thread))
        now = time.perf_counter()
        seconds[line] += now - before  # type: ignore[assignment]
        before = now
    result.put(seconds)
