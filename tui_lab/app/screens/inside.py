"""The screen that looks inside a model at one example: logit lens, ablation, norms, and layers over time."""

import math
import time
from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Static

from tui_lab.app.keymap import named
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.inside_layers import LayersView
from tui_lab.app.screens.inside_text import about, below, tabs
from tui_lab.app.screens.inside_views import InsideViews
from tui_lab.app.session.attention_source import Rows
from tui_lab.app.session.inside_source import InsideSource
from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.chart import has_braille
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.heatmap import LETTERS, SHADES, Lines, Ramp, ramp_of
from tui_lab.app.widgets.static_text import update_text

SECONDS_BETWEEN_TICKS = 0.25
PAINT_SHARE = 0.02
"""Fraction of a core that drawing may take."""


class InsideScreen(BaseScreen[None], Screen[None]):
    """Shows one example of `rows`; measures again when the weights change. Costs nothing once closed."""

    CSS_PATH = "inside.tcss"
    BINDINGS = named(
        "inside",
        Binding("tab", "next_view(1)", "Next view", key_display="1-4"),
        Binding("m", "measure", "Color"),
        Binding("b", "how", "Zero/mean"),
        Binding("r", "measure_now", "Measure"),
        Binding("n", "example(1)", "Example", key_display="n N"),
        Binding("N", "example(-1)", "Previous example", show=False),
        Binding("space", "steer('pause')", "Pause"),
        Binding("s", "steer('step')", "Step"),
        Binding("escape,q", "back", "Back"),
        Binding("t", "app.next_theme", "Theme", show=False),
        Binding("question_mark,f1", "help", "Help"),
        Binding("shift+tab", "next_view(-1)", "Previous view", show=False),
        Binding("1", "view(0)", "Lens", show=False),
        Binding("2", "view(1)", "Ablation", show=False),
        Binding("3", "view(2)", "Norms", show=False),
        Binding("4", "view(3)", "Layers", show=False),
        Binding("left,h", "move(0, -1)", show=False),
        Binding("right,l", "move(0, 1)", show=False),
        Binding("up,k", "move(-1, 0)", show=False),
        Binding("down,j", "move(1, 0)", show=False),
        Binding("home", "end(False)", show=False),
        Binding("end", "end(True)", show=False),
    )

    def __init__(
        self,
        state: LabState,
        rows: Rows | None,
        row: int,
        source: InsideSource,
        steer: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        replayed: bool = False,
        why_no_example: str = "",
    ) -> None:
        """rows: None if there is no example: then only the layers over time are shown, and `why_no_example`.

        steer: runs a command of the lab screen by its id. replayed: the weights are those of a checkpoint.
        """
        super().__init__()
        self._state = state
        self._rows = rows
        self.row = row
        self._source = source
        self._steer = steer
        self._clock = clock
        self._replayed = replayed
        self._why_no_example = why_no_example
        self.views = InsideViews(state.layers)
        if rows is None:
            self.views.go_to(len(self.views.every) - 1)
        self._was_over = False
        self._stale = True
        self._next_paint_at = -math.inf

    def compose(self) -> ComposeResult:
        yield Static(id="tabs")
        yield Static(id="about")
        yield Lines(id="inside")
        yield Static(id="value")
        yield KeyLine()

    @property
    def n_requests(self) -> int:
        """How often the model was asked for measurements."""
        return self._source.n_requests

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.redraw())
        self.tick()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "steer":
            return not self._state.over
        if action in ("example", "measure_now"):
            return self.views.look is not None and self._rows is not None
        return self.views.look == "ablation" if action == "how" else True

    def tick(self) -> None:
        """Take new measurements, draw them, and request the next ones if the weights have changed."""
        if not self.is_attached:
            return
        now = self._clock()
        if self._state.over != self._was_over:
            self._was_over = self._state.over
            self.refresh_bindings()
        if self._state.ready is not None:
            mine = [measured for measured in self._source.drain() if measured.row == self.row]
            self._stale |= self.views.take(mine, self._state.ready.tokenizer)
        self._stale |= self.views.take_curves(self._state.layers)
        if self._stale and now >= self._next_paint_at:
            self.redraw()
        elif self.is_current:
            update_text(self.query_one("#about", Static), self._about())
        self._request(now)

    def _request(self, now: float) -> None:
        state = self._state
        look = self.views.look
        if look is None or self._rows is None or state.phase == "loading":
            return
        self._source.request(
            look,
            self.views.how,
            self._rows,
            self.row,
            state.step,
            now,
            weights=state.saved_step if self._replayed else state.step,
            running=state.phase == "running",
        )

    # Drawing

    def _ramp(self) -> Ramp:
        if not has_braille():
            return Ramp((), "", LETTERS)
        return Ramp((), "", SHADES) if self.app.no_color else ramp_of(self.app.current_theme)

    def redraw(self) -> None:
        began = time.thread_time()
        self._stale = False
        update_text(self.query_one("#tabs", Static), tabs(self.views))
        update_text(self.query_one("#about", Static), self._about())
        lines = self.query_one(Lines)
        ramp = self._ramp()
        view = self.views.drawn
        if isinstance(view, LayersView) and not has_braille():
            view.use_ascii()
        lines.put([] if view is None else view.draw(ramp, *lines.size))
        update_text(self.query_one("#value", Static), Text() if view is None else below(view, ramp))
        self._next_paint_at = self._clock() + (time.thread_time() - began) / PAINT_SHARE

    def _about(self) -> Text:
        views = self.views
        why_not = self._why_no_example if views.look is not None and self._rows is None else ""
        return about(self._state, views.view, views.measured, why_not, is_live=views.look is None)

    # Keys

    def on_resize(self, event: Resize) -> None:
        # The widgets have their new sizes by the next tick.
        self._stale = True
        self._next_paint_at = -math.inf

    def on_lines_clicked(self, event: Lines.Clicked) -> None:
        if (view := self.views.drawn) is not None:
            view.click(event.x, event.y)
            self.redraw()

    def action_view(self, number: int) -> None:
        self.views.go_to(number)
        self._stale = True
        self._next_paint_at = -math.inf
        self.refresh_bindings()
        self.tick()

    def action_next_view(self, by: int) -> None:
        self.action_view((self.views.number + by) % len(self.views.every))

    def action_measure(self) -> None:
        self.views.view.next_measure()
        self.redraw()

    def action_how(self) -> None:
        self.views.how = "mean" if self.views.how == "zero" else "zero"
        self.action_measure_now()

    def action_measure_now(self) -> None:
        self._source.reset()
        self.tick()

    def action_move(self, down: int, right: int) -> None:
        if (view := self.views.drawn) is not None:
            view.move(down, right)
            self.redraw()

    def action_end(self, last: bool) -> None:
        if (view := self.views.drawn) is not None:
            view.move_to_end(last=last)
            self.redraw()

    def action_example(self, by: int) -> None:
        if self._rows is not None:
            self.row = (self.row + by) % len(self._rows.x)
            self.action_measure_now()

    def action_steer(self, command_id: str) -> None:
        self._steer(command_id)

    def action_back(self) -> None:
        self.dismiss(None)

    def action_help(self) -> None:
        self.app.push_screen(Help("inside", self._state.run_config))
