"""When to kill: at any time, during training, or while a file is being written."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tools.torture.victim import Place
from tui_lab.util.files import TEMPORARY

Reached = Callable[[], bool]


@dataclass(frozen=True)
class KillTime:
    """`delay` seconds after `reached()` is true for the first time."""

    name: str
    reached: Reached
    delay: float


def draw(place: Place, random_source: random.Random, lifetime: float) -> KillTime:
    """Draw when to kill the next process, which would run for `lifetime` seconds."""
    training = _grows(place)
    writes_checkpoint = _temporary(place, "checkpoints")
    begins = random_source.randint(1, 40)
    kill_times = (
        KillTime("any time", lambda: True, random_source.uniform(0.0, lifetime)),
        KillTime("training", training, random_source.uniform(0.0, lifetime / 3)),
        KillTime("checkpoint begins", _after(begins, writes_checkpoint), 0.0),
        KillTime("checkpoint half written", _after(begins, writes_checkpoint), random_source.uniform(0.0, 0.01)),
        KillTime("one checkpoint more", _after(random_source.randint(1, 10), _one_checkpoint_more(place)), 0.0),
        KillTime(
            "downsampled log or summary", _after(begins, _temporary(place, "")), random_source.uniform(0.0, 0.002)
        ),
    )
    return random_source.choice(kill_times)


def wait(kill_time: KillTime, over: Callable[[], bool]) -> bool:
    """Wait for the time; return whether it came before the process was over."""
    while not kill_time.reached():
        if over():
            return False
    until = time.perf_counter() + kill_time.delay
    while time.perf_counter() < until:
        if kill_time.delay > 0.05 and over():
            return False
    return True


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _grows(place: Place) -> Reached:
    """Return whether the event log is longer than it is now."""

    def size() -> int:
        run = place.run
        try:
            return (run / "events.jsonl").stat().st_size if run else 0
        except OSError:
            return 0

    before = size()
    return lambda: size() > before


def _temporary(place: Place, within: str) -> Reached:
    """Return whether a file is being written in this folder of the run."""

    def exists() -> bool:
        run = place.run
        return run is not None and any(name.startswith(TEMPORARY) for name in _names(run / within))

    return exists


def _one_checkpoint_more(place: Place) -> Reached:
    """Return whether there are more checkpoints than at the last call: the one it replaces is still there."""
    before = 0

    def is_one_more() -> bool:
        nonlocal before
        run = place.run
        now = 0 if run is None else sum(name.startswith("step-") for name in _names(run / "checkpoints"))
        grown = now > before
        before = now
        return grown

    return is_one_more


def _after(times: int, reached: Reached) -> Reached:
    """Return whether `reached` has become true for the `times`-th time."""
    left = times
    previous = True

    def now() -> bool:
        nonlocal left, previous
        current = reached()
        if current and not previous:
            left -= 1
        previous = current
        return current and left <= 0

    return now
