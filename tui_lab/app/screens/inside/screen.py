"""The screen that looks inside a model at one example: logit lens, ablation, norms, and layers over time."""

import time
from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from tui_lab.app.keymap import named
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.inside.layers import LayersView
from tui_lab.app.screens.inside.text import about as about_text
from tui_lab.app.screens.inside.text import below, tabs
from tui_lab.app.screens.inside.views import InsideViews
from tui_lab.app.screens.live_example import LiveExampleScreen
from tui_lab.app.session.attention_source import Rows
from tui_lab.app.session.inside_source import InsideSource, LookRequest
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.chart import has_braille
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.heatmap import Lines
from tui_lab.app.widgets.static_text import update_text


class InsideScreen(LiveExampleScreen):
    """Shows one example of `rows` in one of several views."""

    CSS_PATH = "screen.tcss"
    BINDINGS = named(
        "inside",
        Binding("tab", "next_view(1)", "View", key_display="1-4"),
        Binding("m", "measure", "Color"),
        Binding("b", "how", "Mean"),
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

        The others: see `LiveExampleScreen`.
        """
        super().__init__(state, row, steer, clock, replayed=replayed)
        self._rows = rows
        self._source = source
        self._why_no_example = why_no_example
        self.views = InsideViews(state.layers)
        if rows is None:
            self.views.go_to(len(self.views.every) - 1)

    def compose(self) -> ComposeResult:
        yield Static(id="tabs")
        yield Static(id="about")
        yield Lines(id="inside")
        yield Static(id="value")
        yield KeyLine()

    @property
    def main(self) -> Lines:
        return self.query_one(Lines)

    @property
    def n_requests(self) -> int:
        """How often the model was asked for measurements."""
        return self._source.n_requests

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "steer":
            return not self._state.over
        if action in ("example", "measure_now"):
            return self.views.look is not None and self._rows is not None
        return self.views.look == "ablation" if action == "how" else True

    def take(self) -> bool:
        is_new = self.views.take_curves(self._state.layers)
        if self._state.ready is not None:
            mine = [measured for measured in self._source.drain() if measured.row == self.row]
            is_new |= self.views.take(mine, self._state.ready.tokenizer)
        return is_new

    def request(self, now: float) -> None:
        state = self._state
        look = self.views.look
        if look is None or self._rows is None or state.phase == "loading":
            return
        weights = state.saved_step if self._replayed else state.step
        request = LookRequest(look, self.views.how, self._rows, self.row, state.step, weights)
        self._source.request(request, now, running=state.phase == "running")

    # Drawing

    def paint(self) -> None:
        update_text(self.query_one("#tabs", Static), tabs(self.views))
        ramp = self.ramp()
        view = self.views.drawn
        if isinstance(view, LayersView) and not has_braille():
            view.use_ascii()
        self.main.put([] if view is None else view.draw(ramp, *self.main.size))
        update_text(self.query_one("#value", Static), Text() if view is None else below(view, ramp))

    def about(self) -> Text:
        views = self.views
        why_not = self._why_no_example if views.look is not None and self._rows is None else ""
        return about_text(self._state, views.view, views.measured, why_not, is_live=views.look is None)

    # Keys

    def on_lines_clicked(self, event: Lines.Clicked) -> None:
        if (view := self.views.drawn) is not None:
            view.click(event.x, event.y)
            self.redraw()

    def action_view(self, number: int) -> None:
        self.views.go_to(number)
        self.redraw_at_next_tick()
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

    def action_back(self) -> None:
        self.dismiss(None)

    def action_help(self) -> None:
        self.app.push_screen(Help("inside", self._state.run_config))
