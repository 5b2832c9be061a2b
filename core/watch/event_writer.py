"""Writes the events of a script's run in a thread of its own, in the order in which they are given."""

import queue
import threading
from collections.abc import Callable, Iterator

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summarizer, Summary
from tui_lab.util.errors import RunError

Job = Callable[[], None]


class EventWriter:
    """`put` takes events, and jobs that write other files; `close` waits until all are written.

    What cannot be written is lost and noted in `problem`: a full disk must not stop the script.
    """

    def __init__(self, run: Run) -> None:
        self.problem = ""
        self._run = run
        self._queue: queue.SimpleQueue[ev.Event | Job | None] = queue.SimpleQueue()
        self._summarizer = Summarizer()
        self._thread = threading.Thread(target=self._write, name="tui-lab writer", daemon=True)
        self._thread.start()

    def put(self, item: ev.Event | Job) -> None:
        self._queue.put(item)

    def close(self) -> Summary:
        """Write everything and the summary, which is returned."""
        self._queue.put(None)
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
        except (RunError, OSError) as error:
            self.problem = str(error)
            for _ in self._events():  # The script must be able to go on putting events.
                continue

    def _events(self) -> Iterator[ev.Event]:
        """The events until the end; jobs are run as they come."""
        while (item := self._queue.get()) is not None:
            if isinstance(item, ev.Event):
                self._summarizer.update(item)
                yield item
                continue
            try:
                item()
            except (OSError, ValueError) as error:
                self.problem = str(error)
