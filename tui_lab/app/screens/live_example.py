"""Base of the screens that show measurements of one example while the model trains."""

import math
import time
from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Resize
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Static

from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.chart import has_braille
from tui_lab.app.widgets.heatmap import LETTERS, SHADES, Ramp, ramp_of
from tui_lab.app.widgets.static_text import update_text

SECONDS_BETWEEN_TICKS = 0.25
PAINT_SHARE = 0.02
"""Fraction of a core that drawing may take."""


class LiveExampleScreen(BaseScreen[None], Screen[None]):
    """Takes measurements, draws them, and requests the next ones when the weights change. Costs nothing once closed.

    A subclass has a Static with the id "about", and actions `move` and `end`.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,h", "move(0, -1)", show=False),
        Binding("right,l", "move(0, 1)", show=False),
        Binding("up,k", "move(-1, 0)", show=False),
        Binding("down,j", "move(1, 0)", show=False),
        Binding("home", "end(False)", show=False),
        Binding("end", "end(True)", show=False),
    ]

    def __init__(
        self,
        state: LabState,
        row: int,
        steer: Callable[[str], None],
        clock: Callable[[], float],
        *,
        replayed: bool,
    ) -> None:
        """row: of the example. steer: runs a command of the lab screen by its id.

        replayed: the weights are those of a checkpoint.
        """
        super().__init__()
        self._state = state
        self.row = row
        self._steer = steer
        self._clock = clock
        self._replayed = replayed
        self._was_over = False
        self._stale = True
        self._next_paint_at = -math.inf

    @property
    @abstractmethod
    def main(self) -> Widget:
        """The widget that has the focus."""

    @abstractmethod
    def take(self) -> bool:
        """Take the measurements that have arrived; return whether there is something new to draw."""

    @abstractmethod
    def request(self, now: float) -> None:
        """Request measurements if the weights have changed."""

    @abstractmethod
    def paint(self) -> None:
        """Draw everything but the lines about the measurements."""

    @abstractmethod
    def about(self) -> Text:
        """Return the lines about the measurements."""

    def on_mount(self) -> None:
        self.main.focus()
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.redraw())
        self.tick()

    def tick(self) -> None:
        """Take new measurements, draw them, and request the next ones."""
        if not self.is_attached:
            return
        now = self._clock()
        if self._state.over != self._was_over:
            self._was_over = self._state.over
            self.refresh_bindings()
        self._stale |= self.take()
        if self._stale and now >= self._next_paint_at:
            self.redraw()
        elif self.is_current:
            update_text(self.query_one("#about", Static), self.about())
        self.request(now)

    def redraw(self) -> None:
        began = time.thread_time()
        self._stale = False
        update_text(self.query_one("#about", Static), self.about())
        self.paint()
        self._next_paint_at = self._clock() + (time.thread_time() - began) / PAINT_SHARE

    def redraw_at_next_tick(self) -> None:
        self._stale = True
        self._next_paint_at = -math.inf

    def ramp(self) -> Ramp:
        """Return the color scale, or signs in its place, that the terminal and the theme allow."""
        if not has_braille():
            return Ramp((), "", LETTERS)
        return Ramp((), "", SHADES) if self.app.no_color else ramp_of(self.app.current_theme)

    def on_resize(self, event: Resize) -> None:
        # The widgets have their new sizes by the next tick. call_after_refresh would depend on which screen is on top.
        self.redraw_at_next_tick()

    def action_steer(self, command_id: str) -> None:
        self._steer(command_id)
