"""Decide what to draw at each tick, so that drawing takes a small fraction of one core."""

import math
import time
from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, Protocol, TypeVar

SECONDS_BETWEEN_TICKS = 0.1
SECONDS_BETWEEN_IDLE_TICKS = 0.4
SECONDS_BETWEEN_IDLE_TICKS_OF_SLOW_MODEL = 1.0
"""When nothing waits to be drawn and no key was pressed for `SECONDS_AWAKE`."""
SECONDS_AWAKE = 3.0
MIN_PAUSE = 0.5
MAX_PAUSE = 5.0
"""Seconds between two new frames."""
SECONDS_WHILE_TYPING = 15.0
"""A letter that comes during a frame is shown after it."""
SECONDS_TO_SETTLE = 1.1
"""After a key, until the next new frame at the latest: what the key made the model measure has arrived by then."""
PAINT_SHARE = 0.01
PAINT_SHARE_OF_SLOW_MODEL = 0.006
"""Fraction of one core for drawing. The training threads wait for each other, so a core that draws slows all of them:
on two cores, training loses twice that fraction. A slow model has little new to draw."""
SECONDS_OF_SLOW_STEP = 0.1


class Drawable(Protocol):
    @property
    def display(self) -> bool: ...


Pane = TypeVar("Pane", bound=Drawable)


class Frame(NamedTuple, Generic[Pane]):
    """What to draw now. complete: everything that is visible; new: of the present state of the run."""

    panes: list[Pane]
    complete: bool = False
    new: bool = False


class PaintScheduler(Generic[Pane]):
    """Decide when the screen advances to a new state of the run; all panes do so in one frame.

    - A new frame comes after a pause in proportion to what the last one cost, or soon after `news`.
    - After `request` (a key or a click) every visible pane is drawn at once, in the state of the last new frame.
    - While somebody types in a field, new frames come less often and requests wait.

    Drawn in one frame, the panes also cost half of what they cost one by one: the screen is composed once.
    `cpu_time` returns the CPU seconds of the thread that draws. Every `now` is a reading of one monotonic clock.
    """

    def __init__(self, panes: Sequence[Pane], cpu_time: Callable[[], float] = time.thread_time) -> None:
        self._panes = panes
        self._cpu_time = cpu_time
        self._requested = True
        self._news_after = 0.0
        """A new frame is due once the last one is that many seconds old; infinity if nothing important happened."""
        self._new_at = float("-inf")
        """When the last new frame was drawn."""
        self._next_at = float("-inf")
        """When the next one is due at the latest."""
        self._cpu_at_new = 0.0
        self._grown_at = float("-inf")
        """When a growing pane was drawn last."""
        self._typed_at = float("-inf")
        self._key_pressed_at = float("-inf")
        self.seconds_a_step: float | None = None
        """Of the model that trains, if known."""

    def request(self) -> None:
        """Draw everything visible at the next tick."""
        self._requested = True

    def news(self, after: float = 0.0) -> None:
        """Show the present state of the run, once the frame shown is `after` seconds old."""
        self._news_after = min(self._news_after, after)

    def key_pressed(self, now: float) -> None:
        """Draw what the key changed without delay."""
        self._requested = True
        self._key_pressed_at = now

    def typed(self, now: float) -> None:
        """Note that the text of a field has changed: letters come before charts for a while."""
        self._typed_at = now

    def due(self, now: float, growing: Pane | None = None) -> Frame[Pane]:
        """Return the panes to draw at this tick.

        `growing` is a pane that shows text while it is generated; it is drawn at ticks that draw nothing else, and at
        few of them while somebody types.
        """
        typing = now - self._typed_at < MIN_PAUSE
        age = now - self._new_at
        visible = [pane for pane in self._panes if pane.display]
        if not typing and age >= self._news_after or age >= self._pause(typing) or now >= self._next_at:
            self._requested = False
            self._news_after = math.inf
            self._new_at = now
            self._next_at = math.inf
            self._cpu_at_new = self._cpu_time()
            return Frame(visible, complete=True, new=True)
        if self._requested and not typing:
            self._requested = False
            self._next_at = now + SECONDS_TO_SETTLE
            return Frame(visible, complete=True)
        if growing is None or not growing.display or (typing and now - self._grown_at < MIN_PAUSE):
            return Frame([])
        self._grown_at = now
        return Frame([growing])

    def seconds_to_next_tick(self, now: float, *, generating: bool = False) -> float:
        """Return how long to wait before the next call of `due`."""
        awake = now - self._key_pressed_at < SECONDS_AWAKE
        if awake or self._requested or generating:
            return SECONDS_BETWEEN_TICKS
        idle = SECONDS_BETWEEN_IDLE_TICKS_OF_SLOW_MODEL if self._slow else SECONDS_BETWEEN_IDLE_TICKS
        news_in = self._news_after - (now - self._new_at)
        return min(idle, max(SECONDS_BETWEEN_TICKS, news_in))

    @property
    def _slow(self) -> bool:
        return (self.seconds_a_step or 0.0) >= SECONDS_OF_SLOW_STEP

    def _pause(self, typing: bool) -> float:
        """Return the seconds between new frames that keep drawing within its share of a core."""
        spent = self._cpu_time() - self._cpu_at_new
        share = PAINT_SHARE_OF_SLOW_MODEL if self._slow else PAINT_SHARE
        pause = min(MAX_PAUSE, max(MIN_PAUSE, spent / share))
        return max(pause, SECONDS_WHILE_TYPING) if typing else pause
