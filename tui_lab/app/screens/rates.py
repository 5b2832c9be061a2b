"""The learning-rate range test: drawn while it runs; Enter takes the suggested rate, or the one under the cursor."""

import time
from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Vertical
from textual.events import Resize
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_lab.app.keymap import named
from tui_lab.app.session.rate_search import Ended, LossAtRate, RateSearch
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.keyboard_chart import KeyboardChart
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.training.lr_suggestion import default_range
from tui_lab.core.watch.rate_test.rated_group import groups_line
from tui_lab.text.rate_text import (
    FOR_THE_START,
    NO_FALL,
    SAME_CURVES,
    RangeCurve,
    are_equal,
    drawing_of,
    limits,
    loss_line,
    progress_line,
    rate_number,
    result_lines,
    rounded,
    suggested,
    waiting_line,
)
from tui_lab.util.escape import printable

SECONDS_BETWEEN_TICKS = 0.2
N_RATES = 100
LEAST_HEIGHT_FOR_LIMITS = 28
"""Lines of the terminal."""


class RateScreen(BaseScreen[float | None], ModalScreen[float | None]):
    """Returns the rate to use, or None. Enter uses it only where `effect` says what it does."""

    CSS_PATH = "rates.tcss"
    BINDINGS = named(
        "rates",
        Binding("enter", "use", "Use the rate"),
        Binding("n", "again", "Another seed"),
        Binding("left,h", "move(-1)", "Lower"),
        Binding("right,l", "move(1)", "Higher"),
        Binding("escape,q", "back", "Back"),
    )

    def __init__(
        self,
        optimizer: str,
        weights: str,
        search: RateSearch,
        effect: str,
        first_seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """optimizer: its name. weights: from which a test starts. effect: what Enter does; empty: nothing."""
        super().__init__()
        self._optimizer = optimizer
        self._weights = weights
        self._search = search
        self._effect = effect
        self._seed = first_seed
        self._clock = clock
        self._started_at = 0.0
        self.curves: list[RangeCurve] = []
        self.ended: Ended | None = None
        self.moved_to: float | None = None
        """The rate that the user chose with the cursor."""

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield KeyboardChart(id="rates")
            yield Static(id="result")
            yield Static(id="limits")

    def on_mount(self) -> None:
        box = self.query_one("#box")
        box.border_title = f"Find a learning rate: {', '.join(filter(None, (self._optimizer, self._weights)))}"
        self.query_one(KeyboardChart).can_focus = False
        self._start()
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self.redraw()

    def on_unmount(self) -> None:
        self._search.close()

    def on_resize(self, event: Resize) -> None:
        self.redraw()

    @property
    def rate(self) -> float | None:
        """The rate that Enter uses: the one under the cursor, or the suggestion."""
        if self.moved_to is not None:
            return self.moved_to
        suggestions = suggested(self.curves)
        return suggestions[0].lr if suggestions else None

    def _start(self) -> None:
        self.ended = None
        self._started_at = self._clock()
        self._search.start(self._seed)
        self.curves.append(RangeCurve(self._seed, *default_range(self._optimizer)))

    def tick(self) -> None:
        """Take what was measured since the last tick, and draw it."""
        messages = self._search.drain() if self.ended is None else ()
        for message in messages:
            if isinstance(message, LossAtRate):
                self.curves[-1].add(message.lr, message.loss)
            else:
                self.ended = message
                self.curves[-1].diverged = message.diverged
        if messages:
            self.redraw()
        elif self.ended is None and not self.curves[-1].rates:
            self._show_result()

    def redraw(self) -> None:
        chart = self.query_one(KeyboardChart)
        drawing = drawing_of(self.curves, self.rate)
        chart.draw(drawing.curves, marks=drawing.marks, dots=drawing.dots, x_unit="lr", y_unit="loss", log_x=True)
        self._show_result()
        with_limits = self.app.size.height >= LEAST_HEIGHT_FOR_LIMITS and self.ended is not None
        about = limits(self._optimizer, self.curves) if with_limits else ""
        update_text(self.query_one("#limits", Static), Text(about), layout=True)
        self._show_keys()

    def _show_result(self) -> None:
        update_text(self.query_one("#result", Static), self._result(), layout=True)

    def _result(self) -> Text:
        if self.ended is None:
            line = progress_line(self.curves[-1], N_RATES)
            waiting = waiting_line(self._clock() - self._started_at)
            return Text(f"seed {self._seed}  {line}" if self.curves[-1].rates else waiting, "dim")
        if self.ended.error:
            return Text(printable(self.ended.error), "bold")
        result = self.query_one("#result", Static)
        rows = result_lines(self.curves, suggested(self.curves), result.content_size.width)
        lines = [*(rows or [NO_FALL]), SAME_CURVES if are_equal(self.curves) else loss_line(self.curves[-1])]
        if rows:
            lines += [text for text in (printable(groups_line(self.ended.groups)), FOR_THE_START) if text]
        return Text("\n").join([Text(lines[0], "bold"), *map(Text, lines[1:])])

    def _show_keys(self) -> None:
        use = "" if self.rate is None or not self._effect else f"Enter {self._effect} {rate_number(self.rate)} · "
        use += "" if self.rate is None else "←→ move · "
        again = "n another seed · " if self.ended is not None and not self.ended.error else ""
        self.query_one("#box").border_subtitle = f"{use}{again}Esc back"

    def action_use(self) -> None:
        if self.rate is not None and self._effect:
            self.dismiss(self.rate)

    def action_again(self) -> None:
        """Test again with another seed: how far do the suggestions lie apart?"""
        if self.ended is not None and not self.ended.error:
            self._seed += 1
            self._start()
            self.redraw()

    def action_move(self, by: int) -> None:
        """Choose the next lower or higher rate of the test."""
        curve = max(self.curves, key=lambda each: len(each.rates))
        if not curve.rates:
            return
        now = self.rate or curve.rates[len(curve.rates) // 2]
        nearest = min(range(len(curve.rates)), key=lambda i: abs(curve.rates[i] / now - 1))
        at = min(max(0, nearest + by), len(curve.rates) - 1)
        self.moved_to = rounded(curve.rates[at])
        self.redraw()

    def action_back(self) -> None:
        self.dismiss(None)
