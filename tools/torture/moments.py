"""When to kill: at any time, in the middle of the training, or where a file is being written."""

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
class Moment:
    """`reached` is asked again and again, and is then followed by `delay` seconds."""

    name: str
    reached: Reached
    delay: float


def draw(place: Place, chance: random.Random, lifetime: float) -> Moment:
    """A moment for the next kill of a victim that would live `lifetime` seconds."""
    training = _grows(place)
    half, begins = _temporary(place, "checkpoints"), chance.randint(1, 40)
    moments = (
        Moment("any time", lambda: True, chance.uniform(0.0, lifetime)),
        Moment("training", training, chance.uniform(0.0, lifetime / 3)),
        Moment("checkpoint begins", _after(begins, half), 0.0),
        Moment("checkpoint half written", _after(begins, half), chance.uniform(0.0, 0.01)),
        Moment("two checkpoints stand", _after(chance.randint(1, 10), _two_checkpoints(place)), 0.0),
        Moment("digest or summary", _after(begins, _temporary(place, "")), chance.uniform(0.0, 0.002)),
    )
    return chance.choice(moments)


def wait(moment: Moment, over: Callable[[], bool]) -> bool:
    """Whether the moment came before the end."""
    while not moment.reached():
        if over():
            return False
    until = time.perf_counter() + moment.delay
    while time.perf_counter() < until:
        if moment.delay > 0.05 and over():
            return False
    return True


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _grows(place: Place) -> Reached:
    """The record gets longer than it is now."""

    def size() -> int:
        run = place.run
        try:
            return (run / "events.jsonl").stat().st_size if run else 0
        except OSError:
            return 0

    before = size()
    return lambda: size() > before


def _temporary(place: Place, within: str) -> Reached:
    def stands() -> bool:
        run = place.run
        return run is not None and any(name.startswith(TEMPORARY) for name in _names(run / within))

    return stands


def _two_checkpoints(place: Place) -> Reached:
    def stand() -> bool:
        run = place.run
        return run is not None and sum(name.startswith("step-") for name in _names(run / "checkpoints")) > 1

    return stand


def _after(times: int, reached: Reached) -> Reached:
    """The `times`-th time that it comes to be so."""
    left, was = times, True

    def now() -> bool:
        nonlocal left, was
        found = reached()
        if found and not was:
            left -= 1
        was = found
        return found and left <= 0

    return now
