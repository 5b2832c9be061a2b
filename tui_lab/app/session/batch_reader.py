"""Read the recorded batch of a script's run in a thread, whenever its file has changed."""

import threading
from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.session.alignment import Alignment, alignment
from tui_lab.core.runs.run_files import BATCH
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, read_batch

SECONDS_BETWEEN_BATCHES = 2.0
"""While the script trains: batches then change faster than one can read."""
SECONDS_BETWEEN_LOOKS = 0.25


@dataclass(frozen=True)
class BatchReading:
    """The batch, or why it could not be read; neither if none is recorded yet."""

    batch: RecordedBatch | None = None
    alignment: Alignment | None = None
    """None if the batch has no tokens, or no targets that are tokens."""
    problem: str = ""


class BatchReader:
    """Call `poll` regularly; it never waits for the disk, except for one stat."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread: threading.Thread | None = None
        self._reading: BatchReading | None = None
        self._stamp: object = None
        self._looked_at = float("-inf")

    def poll(self, now: float, *, running: bool) -> BatchReading | None:
        """Return a reading that has ended since the last call; start one if the file has changed.

        now: seconds. running: whether the script trains.
        """
        if self._thread is not None and self._thread.is_alive():
            return None
        reading = self._reading
        self._reading = None
        pause = SECONDS_BETWEEN_BATCHES if running else SECONDS_BETWEEN_LOOKS
        if reading is None and now - self._looked_at >= pause:
            self._looked_at = now
            self._read_if_changed()
        return reading

    @property
    def busy(self) -> bool:
        """Whether a reading is in progress, or one has not been taken yet."""
        return self._reading is not None or (self._thread is not None and self._thread.is_alive())

    def join(self) -> None:
        """Wait for the reading in progress."""
        if self._thread is not None:
            self._thread.join()

    def _read_if_changed(self) -> None:
        try:
            status = (self._folder / BATCH).stat()
        except OSError:
            return
        stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
        if stamp != self._stamp:
            self._stamp = stamp
            self._thread = threading.Thread(target=self._read, name="batch reader", daemon=True)
            self._thread.start()

    def _read(self) -> None:
        try:
            batch = read_batch(self._folder)
            aligned = None
            if batch is not None and batch.x is not None and batch.y is not None and not batch.n_classes:
                aligned = alignment(batch.x, batch.y)
            self._reading = BatchReading(batch, aligned)
        except (OSError, ValueError) as error:
            self._reading = BatchReading(problem=f"the recorded batch cannot be read: {error}")
        except Exception as error:
            self._reading = BatchReading(problem=f"the recorded batch cannot be read: {error!r}")
