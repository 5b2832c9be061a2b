"""The spikes of a run: noticed as its events come, and read from the log of a run that is too long for that."""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from tui_lab.app.session.messages import SpikeSeen
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.spikes import Spike, SpikeDetector, read_spikes
from tui_lab.util.errors import RunError

MOST_SPIKES = 1000
"""The newest are kept."""
LEAST_BYTES_TO_READ = 2**19
"""A shorter log is not downsampled: its events say all."""


@dataclass
class Spikes:
    """Give it every event. recorded: those of the whole log, once they are read; a replay has not reached all."""

    recorded: Sequence[Spike] = ()
    _detector: SpikeDetector = field(default_factory=SpikeDetector, compare=False)
    _seen: list[Spike] = field(default_factory=list)

    def update(self, event: ev.Event) -> None:
        if (spike := self._detector.update(event)) is not None:
            self._seen.append(spike)
            del self._seen[:-MOST_SPIKES]

    def copy(self) -> "Spikes":
        """Return what later events do not change. Only `until` may be called."""
        return replace(self, _seen=list(self._seen))

    @property
    def latest(self) -> Spike | None:
        """The spike that was noticed last."""
        return self._seen[-1] if self._seen else None

    def until(self, step: int) -> list[Spike]:
        """Return the spikes until a step, in order."""
        if not self.recorded:
            return list(self._seen)
        spikes = {spike.step: spike for spike in (*self.recorded[-MOST_SPIKES:], *self._seen) if spike.step <= step}
        return [spikes[place] for place in sorted(spikes)]


def with_spikes(events: Iterable[ev.Event]) -> Iterator[ev.Event | SpikeSeen]:
    """Yield events, and after each one the spike that begins with it."""
    detector = SpikeDetector()
    for event in events:
        yield event
        if (spike := detector.update(event)) is not None:
            yield SpikeSeen(spike)


class SpikeReader:
    """Reads the spikes of a long log in a thread: of a downsampled one, the losses between the spikes are not known."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._spikes: list[Spike] | None = None

    def start(self, folder: Path) -> None:
        """Read the log of a run, unless it is short."""
        run = Run(folder)
        if self._thread is None and run.log.size() >= LEAST_BYTES_TO_READ:
            self._thread = threading.Thread(target=self._read, args=(run,), name="spike reader", daemon=True)
            self._thread.start()

    def join(self) -> None:
        """Wait for the reading in progress."""
        if self._thread is not None:
            self._thread.join()

    def take(self) -> list[Spike] | None:
        """Return the spikes once they are read; None before that, and later."""
        spikes = self._spikes
        self._spikes = None
        return spikes

    def _read(self, run: Run) -> None:
        # What is wrong with a damaged log, its replay says.
        with suppress(RunError, OSError):
            self._spikes = read_spikes(run)
