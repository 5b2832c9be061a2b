"""Writes the events of a script's run in a thread of its own, in the order in which they are given."""

import queue
import threading
import time
from collections.abc import Callable, Iterator

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summarizer, Summary

Job = Callable[[], ev.Event | None]
"""Writes a file; returns an event to record, if there is any."""
SECONDS_BETWEEN_LOOKS = 0.2
MAX_WAITING = 50_000
"""Items that wait to be written: some 50 MB."""


class EventWriter:
    """`put` takes events, and jobs that write other files; `close` waits until all are written.

    What cannot be written is lost and noted in `problem`: a full disk must not stop the script.
    """

    def __init__(self, run: Run) -> None:
        self.problem = ""
        self._run = run
        self._queue: queue.SimpleQueue[ev.Event | Job] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._summarizer = Summarizer()
        self._thread = threading.Thread(target=self._write, name="tui-lab writer", daemon=True)
        self._thread.start()

    def put(self, item: ev.Event | Job) -> None:
        """Take an item; waits where the disk is so slow that too many are held."""
        self._queue.put(item)
        while self._queue.qsize() > MAX_WAITING and self._thread.is_alive():
            time.sleep(SECONDS_BETWEEN_LOOKS)

    def close(self) -> Summary:
        """Write everything and the summary, which is returned."""
        self._closing.set()
        self._thread.join()
        summary = self._summarizer.summary(str(self._run.path))
        try:
            self._run.write_summary(summary)
        except OSError as error:
            self.problem = str(error)
        return summary

    def _write(self) -> None:
        try:
            for event in self._run.record(self._events()):
                if isinstance(event, ev.SaveFailed):
                    self.problem = event.message
        except Exception as error:
            self.problem = _message_of(error)
            self._discard()

    def _discard(self) -> None:
        """Take items until the end, so that the script can go on putting them, and run the jobs."""
        while True:
            try:
                for _ in self._events():
                    continue
                return
            except Exception as error:
                self.problem = _message_of(error)

    def _events(self) -> Iterator[ev.Event]:
        """Yield the events until the end; jobs are run as they come."""
        while (item := self._next()) is not None:
            if isinstance(item, ev.Event):
                self._summarizer.update(item)
                yield item
                continue
            try:
                event = item()
            except Exception as error:
                self.problem = _message_of(error)
                continue
            if event is not None:
                self._summarizer.update(event)
                yield event

    def _next(self) -> ev.Event | Job | None:
        """Return the next item; None when the writer is closed and all are taken.

        It looks now and then instead of waiting for each item: to wake a thread at every step costs a small model a
        few percent.
        """
        while True:
            is_closing = self._closing.is_set()
            try:
                return self._queue.get_nowait()
            except queue.Empty:
                if is_closing:
                    return None
                self._closing.wait(SECONDS_BETWEEN_LOOKS)


def _message_of(error: Exception) -> str:
    """Return what the user reads of an error; one that is not of a file is named, since it is a bug."""
    return str(error) if isinstance(error, OSError | ValueError) and str(error) else repr(error)
