"""Decide which panes to draw at each tick, so that drawing takes a small fraction of one core."""

import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

SECONDS_BETWEEN_TICKS = 0.1
SECONDS_BETWEEN_IDLE_TICKS = 1.0
"""With a slow model, when nothing waits to be drawn and no key was pressed for `SECONDS_AWAKE`."""
SECONDS_AWAKE = 3.0
MIN_PAUSE = 0.5
MAX_PAUSE = 10.0
"""Seconds between two rounds of drawing."""
SECONDS_WHILE_TYPING = 5.0
SECONDS_TO_SETTLE = 1.1
PAINT_SHARE = 0.02
PAINT_SHARE_OF_SLOW_MODEL = 0.006
"""Fraction of one core for drawing. The training threads wait for each other, so a core that draws slows all of them. A
slow model keeps every core busy and has little new to draw."""
SECONDS_OF_SLOW_STEP = 0.1


class Drawable(Protocol):
    @property
    def display(self) -> bool: ...


Pane = TypeVar("Pane", bound=Drawable)


class Frame(NamedTuple, Generic[Pane]):
    """What to draw now; `complete` if this is everything that is visible."""

    panes: list[Pane]
    complete: bool = False


class PaintScheduler(Generic[Pane]):
    """Spread drawing over ticks.

    - After `request` (a key, a click, an important event) every visible pane is drawn at once.
    - Otherwise a round of drawing starts after a pause in proportion to what the last round cost, and draws one pane a
      tick, so that a key never waits for more than one.
    - While somebody types in a field, rounds start less often and requests wait.

    `cpu_time` returns the CPU seconds of the thread that draws. Every `now` is a reading of one monotonic clock.
    """

    def __init__(self, panes: Sequence[Pane], cpu_time: Callable[[], float] = time.thread_time) -> None:
        self._panes = panes
        self._cpu_time = cpu_time
        self._requested = True
        self._waiting: list[Pane] = []
        self._round_started = float("-inf")
        self._cpu_at_round_start = 0.0
        self._typed_at = float("-inf")
        self._key_pressed_at = float("-inf")
        self.seconds_a_step: float | None = None
        """Of the model that trains, if known."""

    def request(self) -> None:
        """Draw everything visible at the next tick."""
        self._requested = True

    def key_pressed(self, now: float) -> None:
        """Draw what the key changed without delay."""
        self._requested = True
        self._key_pressed_at = now

    def typed(self, now: float) -> None:
        """Note that the text of a field has changed: letters come before charts for a while."""
        self._typed_at = now

    def due(self, now: float, growing: Pane | None = None) -> Frame[Pane]:
        """Return the panes to draw at this tick.

        `growing` is a pane that shows text while it is generated; it is drawn at ticks that draw nothing else.
        """
        between_rounds = Frame([growing] if growing is not None and growing.display else [])
        typing = now - self._typed_at < MIN_PAUSE
        if typing and not self._waiting and now - self._round_started < SECONDS_WHILE_TYPING:
            return between_rounds
        visible = [pane for pane in self._panes if pane.display]
        if self._requested and not typing:
            self._requested = False
            # A pane that was drawn a moment ago skips this request, so the next round must come soon.
            self._round_started = now - self._pause() + SECONDS_TO_SETTLE
            self._waiting = []
            return Frame(visible, complete=True)
        if self._waiting:
            return Frame([self._waiting.pop()])
        if now - self._round_started >= self._pause():
            self._round_started = now
            self._cpu_at_round_start = self._cpu_time()
            self._waiting = visible
            return Frame([])
        return between_rounds

    def seconds_to_next_tick(self, now: float, *, generating: bool = False) -> float:
        """Return how long to wait before the next call of `due`."""
        awake = now - self._key_pressed_at < SECONDS_AWAKE
        idle = self._slow and not (awake or self._requested or self._waiting or generating)
        return SECONDS_BETWEEN_IDLE_TICKS if idle else SECONDS_BETWEEN_TICKS

    @property
    def _slow(self) -> bool:
        return (self.seconds_a_step or 0.0) >= SECONDS_OF_SLOW_STEP

    def _pause(self) -> float:
        """Return the seconds between rounds that keep drawing within its share of a core."""
        spent = self._cpu_time() - self._cpu_at_round_start
        share = PAINT_SHARE_OF_SLOW_MODEL if self._slow else PAINT_SHARE
        return min(MAX_PAUSE, max(MIN_PAUSE, spent / share))
