"""Read the events of a run ahead of the time at which a replay needs them."""

import queue
import threading
import traceback
from collections.abc import Callable

from tui_lab.app.session.messages import SessionFailed
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import RunError

SECONDS_BETWEEN_CHECKS = 0.5
"""How often a reader that waits for room looks whether it was closed."""
MAX_EVENTS_AHEAD = 4096
"""Events read before their time; an event log may be larger than memory."""


class ReadAhead:
    """A thread that reads the events after step `after`; `report` takes the message that the log cannot be read."""

    def __init__(self, run: Run, after: int, report: Callable[[SessionFailed], None]) -> None:
        self._run = run
        self._after = after
        self._report = report
        self._events: queue.Queue[ev.Event | None] = queue.Queue(MAX_EVENTS_AHEAD)
        self._next: ev.Event | None = None
        self._closed = threading.Event()
        self.ended = False
        """Whether the last event was taken."""
        threading.Thread(target=self._read, name="reading", daemon=True).start()

    def close(self) -> None:
        """Stop reading, and give no more events."""
        self._closed.set()
        self.ended = True
        self._next = None

    def peek(self) -> ev.Event | None:
        """Return the next event; None at the end, or if it is not read yet."""
        if self._next is None and not self.ended:
            try:
                self._next = self._events.get_nowait()
                self.ended = self._next is None
            except queue.Empty:
                return None
        return self._next

    def take(self) -> None:
        """Go on to the event after the one that `peek` returned."""
        self._next = None

    def _read(self) -> None:
        """Read until the end of the log, or until the reader is closed."""
        try:
            log = self._run.log
            for event in log.read(log.offset_of(self._after + 1) if self._after >= 0 else 0):
                # A log that was edited may have steps out of order.
                if event.step > self._after and not self._put(event):
                    return
        except (OSError, RunError) as error:
            self._fail(SessionFailed(str(error)))
        except Exception as error:
            self._fail(SessionFailed(f"reading the events failed: {error!r}", traceback.format_exc()))
        self._put(None)

    def _fail(self, message: SessionFailed) -> None:
        if not self._closed.is_set():
            self._report(message)

    def _put(self, event: ev.Event | None) -> bool:
        while not self._closed.is_set():
            try:
                self._events.put(event, timeout=SECONDS_BETWEEN_CHECKS)
                return True
            except queue.Full:
                continue
        return False
