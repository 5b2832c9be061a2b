"""Read the runs folder in a thread, again and again, at a bounded cost."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from tui_lab.app.session.run_curves import CurveFile, LossCurves
from tui_lab.core.runs.catalog import RunRow, find_runs

SECONDS_BETWEEN_READINGS = 3.0
READING_SHARE = 0.02
"""Fraction of a core that reading may take."""


@dataclass(frozen=True)
class Reading:
    """All runs, and the curves of the requested ones. problem: why they could not be read, or None.

    rows: None if only curves were read.
    """

    rows: tuple[RunRow, ...] | None = ()
    curves: tuple[tuple[Path, LossCurves], ...] = ()
    problem: str | None = None


class RunReader:
    """Call `poll` regularly. clock: returns seconds."""

    def __init__(self, folder: Path, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._clock = clock
        self._files = CurveFile()
        self._thread: threading.Thread | None = None
        self._reading: Reading | None = None
        self._began = 0.0
        self._next_at = 0.0
        self._read_soon = True
        self._read_curves_soon = False
        self.n_started = 0
        """Readings started so far."""

    def read_soon(self) -> None:
        """Start the next reading without a pause."""
        self._read_soon = True

    def read_curves_soon(self) -> None:
        """Read the curves of the requested runs without a pause, but not all runs."""
        self._read_curves_soon = True

    def poll(self, curves_of: Iterable[Path]) -> Reading | None:
        """Return a reading that has ended since the last call; start one if it is time."""
        if self._thread is not None and self._thread.is_alive():
            return None
        reading = self._reading
        now = self._clock()
        if reading is not None:
            self._reading = None
            if reading.rows is not None:
                self._next_at = now + max(SECONDS_BETWEEN_READINGS, (now - self._began) / READING_SHARE)
            return reading
        with_rows = self._read_soon or now >= self._next_at
        if with_rows or self._read_curves_soon:
            self._read_soon = self._read_soon and not with_rows
            self._read_curves_soon = False
            self._began = now
            self.n_started += 1
            arguments = (tuple(curves_of), with_rows)
            self._thread = threading.Thread(target=self._read, args=arguments, name="run reader", daemon=True)
            self._thread.start()
        return None

    def join(self) -> None:
        """Wait for the reading in progress."""
        if self._thread is not None:
            self._thread.join()

    def _read(self, paths: tuple[Path, ...], with_rows: bool) -> None:
        try:
            rows = tuple(find_runs(self._folder)) if with_rows else None
            self._reading = Reading(rows, tuple((path, self._files.read(path)) for path in paths))
        except Exception as error:
            self._reading = Reading(problem=f"cannot read the runs: {error!r}")
