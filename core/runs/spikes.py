"""Which steps of a run are spikes of the loss.

The spike score of OLMo 2 (OLMo Team 2024, arXiv 2501.00656) is the percentage of values of a series, such as the loss
or the gradient norm, that are at least seven standard deviations away from the rolling average of the last 1,000. The
threshold here is the same, and only upwards. Runs are shorter, and their loss still falls: the window is that of
llm.c's outlier detector (Karpathy 2024, llmc/outlier_detector.h), 128 steps, and a loss is compared with the straight
line through the window.
The losses of a spike do not enter the window, where they would hide the next one. A spike must also be a loss that
matters: without noise, any loss is many deviations away.
"""

import math
import os
import re
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.util.errors import RunError

WINDOW = 128
"""Losses that a loss is compared with, at most."""
LEAST_LOSSES = 32
"""With fewer, the standard deviation is not known well enough, and the first losses of a run fall fast."""
DEVIATIONS = 7.0
LEAST_EXCESS = 0.05
"""Nats per target above the line, at least."""
NEW_LEVEL = 32
"""After so many high losses in a row, that is where the loss is now, and no spike."""
OTHER_LOSSES = ("train.batch_size", "train.seed")
"""Settings, besides those of `data`, after which losses cannot be compared with those before."""
SAME_LOSSES = ("data.skip_examples",)
"""Of `data`, those after which they can."""
_STEP = re.compile(rb'\{"event": "step", "step": (\d+), "loss": (-?[\d.]+(?:e-?\d+)?),')
_CHANGED = b'{"event": "changed"'


@dataclass(frozen=True)
class Spike:
    """The first step of a spike.

    expected: the loss that continues those before it; deviation: their standard deviation. All in nats per target.
    """

    step: int
    loss: float
    expected: float
    deviation: float

    @property
    def excess(self) -> float:
        """How far the loss is above the expected one."""
        return self.loss - self.expected


class SpikeDetector:
    """Give it the events of a run in order."""

    def __init__(self) -> None:
        self._window = _Window()
        self._high: list[float] = []
        """The losses of the spike in progress."""

    def update(self, event: ev.Event) -> Spike | None:
        """Return the spike that begins with this event, if one does."""
        if isinstance(event, ev.StepDone):
            return self.add(event.step, event.loss)
        if isinstance(event, ev.Changed):
            self.change(event.key)
        return None

    def change(self, key: str) -> None:
        """Forget the losses that cannot be compared with those under the new value of a setting."""
        if key in OTHER_LOSSES or (key.startswith("data.") and key not in SAME_LOSSES):
            self._window = _Window()
            self._high.clear()

    def add(self, step: int, loss: float) -> Spike | None:
        """Return the spike that begins with this loss, if one does. A loss that is not finite is not a spike."""
        if not math.isfinite(loss):
            return None
        window = self._window
        expected, deviation = window.expected_and_deviation()
        if window.n < LEAST_LOSSES or loss - expected <= max(DEVIATIONS * deviation, LEAST_EXCESS):
            self._high.clear()
            window.add(loss)
            return None
        self._high.append(loss)
        if len(self._high) > NEW_LEVEL:
            self._window = _Window(self._high)
            self._high = []
            return None
        return Spike(step, loss, expected, deviation) if len(self._high) == 1 else None


class _Window:
    """The last losses, with the sums that the line through them needs: a run may have a million steps."""

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self._losses: deque[float] = deque(losses, maxlen=WINDOW)
        self._sum_up()

    def _sum_up(self) -> None:
        """Sum again, relative to a loss of the window, so that rounding errors stay small."""
        self._origin = self._losses[-1] if self._losses else 0.0
        heights = [loss - self._origin for loss in self._losses]
        self._sum = math.fsum(heights)
        self._squares = math.fsum(height * height for height in heights)
        self._products = math.fsum(place * height for place, height in enumerate(heights))
        self._n_added = 0

    @property
    def n(self) -> int:
        return len(self._losses)

    def add(self, loss: float) -> None:
        if self.n == WINDOW:
            oldest = self._losses.popleft() - self._origin
            self._sum -= oldest
            self._squares -= oldest * oldest
            self._products -= self._sum  # Every place moves by one.
        height = loss - self._origin
        self._products += self.n * height
        self._losses.append(loss)
        self._sum += height
        self._squares += height * height
        self._n_added += 1
        if self._n_added == WINDOW:
            self._sum_up()

    def expected_and_deviation(self) -> tuple[float, float]:
        """Return where the line through the losses is at the next place, and their standard deviation from it."""
        n = self.n
        if n < 2:
            return self._origin, 0.0
        mean = self._sum / n
        variance_of_places = (n * n - 1) / 12
        covariance = self._products / n - mean * (n - 1) / 2
        slope = covariance / variance_of_places
        variance = self._squares / n - mean * mean - slope * covariance
        return self._origin + mean + slope * (n + 1) / 2, math.sqrt(max(0.0, variance))


def read_spikes(run: Run) -> list[Spike]:
    """Return the spikes of a recorded run, from its whole event log. Raises RunError, OSError."""
    return SpikeIndex(run).read()


class SpikeIndex:
    """The spikes of a run whose log grows: what was read is kept, so that asking again costs what is new.

    Of a step only the loss is parsed: it takes four seconds for a million of them, and not two minutes.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._begin()

    def _begin(self) -> None:
        self._detector = SpikeDetector()
        self._spikes: list[Spike] = []
        self._n_bytes = 0
        self._last_line = b""
        self._file = -1

    def read(self) -> list[Spike]:
        """Return the spikes until now. Raises RunError, OSError."""
        if not self._run.log.path.is_file():
            return []
        with self._run.log.path.open("rb") as stream:
            file = os.fstat(stream.fileno()).st_ino
            stream.seek(self._n_bytes - len(self._last_line))
            # A run that is resumed from a checkpoint has another log from there on.
            if file != self._file or stream.read(len(self._last_line)) != self._last_line:
                self._begin()
                self._file = file
                stream.seek(0)
            for line in stream:
                if not line.endswith(b"\n"):  # It is being written.
                    break
                self._take(line)
        return list(self._spikes)

    def _take(self, line: bytes) -> None:
        spike = None
        if (match := _STEP.match(line)) is not None:
            spike = self._detector.add(int(match[1]), float(match[2]))
        elif line.startswith(_CHANGED):
            spike = self._detector.update(_parsed(self._run, line))
        if spike is not None:
            self._spikes.append(spike)
        self._n_bytes += len(line)
        self._last_line = line


def _parsed(run: Run, line: bytes) -> ev.Event:
    try:
        return ev.parse_event(line)
    except ValueError as error:
        raise RunError.of("damaged", str(error), key=str(run.log.path)) from error
