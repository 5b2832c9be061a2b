"""The attention screen: what each head attends to in one example, updated while the model trains."""

import time
from collections.abc import Callable

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.widgets import Static

from tui_lab.app.keymap import named
from tui_lab.app.screens.attention_text import (
    Example,
    cell_text,
    head_text,
    legend,
    part_shown,
    summary,
    weights_text,
)
from tui_lab.app.screens.attention_view import AttentionView
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.live_example import LiveExampleScreen
from tui_lab.app.session.attention_source import AttentionSource, MeasuredMaps, Rows
from tui_lab.app.session.state import LabState
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.heatmap import Ramp
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.inference.attention import AttentionMaps, heads_of
from tui_lab.data.dataset import IGNORED

NO_MAPS_YET = "for the trainer's next step"


class AttentionScreen(LiveExampleScreen):
    """Shows one example of `rows`."""

    CSS_PATH = "attention.tcss"
    BINDINGS = named(
        "attention",
        Binding("enter", "enlarge", "Zoom"),
        Binding("escape,q", "back", "Back"),
        Binding("x", "sharpest", "Sharpest"),
        Binding("left_square_bracket", "head(-1)", "Previous head", show=False),
        Binding("right_square_bracket", "head(1)", "Head", key_display="[ ]"),
        Binding("n", "example(1)", "Example", key_display="n N"),
        Binding("N", "example(-1)", "Previous example", show=False),
        Binding("space", "steer('pause')", "Pause"),
        Binding("s", "steer('step')", "Step"),
        Binding("t", "app.next_theme", "Theme", show=False),
        Binding("question_mark,f1", "help", "Help"),
    )

    def __init__(
        self,
        state: LabState,
        rows: Rows,
        row: int,
        source: AttentionSource,
        steer: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        replayed: bool = False,
        above: Text | None = None,
    ) -> None:
        """above: what a lesson says about the maps. The others: see `LiveExampleScreen`."""
        super().__init__(state, row, steer, clock, replayed=replayed)
        self._rows = rows
        self._above = above
        self._source = source
        self._measured: MeasuredMaps | None = None

    def compose(self) -> ComposeResult:
        if self._above is not None:
            yield Static(self._above, id="above")
        yield Static(id="about")
        yield AttentionView(id="maps")
        yield Static(id="value")
        yield KeyLine()

    @property
    def main(self) -> AttentionView:
        return self.view

    @property
    def view(self) -> AttentionView:
        return self.query_one(AttentionView)

    @property
    def n_requests(self) -> int:
        """How often the model was asked for its maps."""
        return self._source.n_requests

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return not (action == "steer" and self._state.over)

    def take(self) -> bool:
        measured = [each for each in self._source.drain() if each.row == self.row]
        for each in measured:
            self._measured = each
            self._rows = each.rows
            if isinstance(each.maps, AttentionMaps):
                self.view.set_maps(each.maps, heads_of(each.maps, self._rows.y[self.row] != IGNORED))
        return bool(measured)

    def request(self, now: float) -> None:
        state = self._state
        if state.phase == "loading":
            return
        running = state.phase == "running"
        self._source.request(self._rows, self.row, state.step, now, replayed=self._replayed, running=running)

    # Drawing

    def paint(self) -> None:
        maps = self.view.maps
        if maps is not None:
            ramp = self.ramp()
            self.view.draw(ramp, self._example.names(maps.block))
            update_text(self.query_one("#value", Static), self._selection_text(maps, ramp))

    def _selection_text(self, maps: AttentionMaps, ramp: Ramp) -> Text:
        """Return two lines: the selected cell or head; the color scale, and which part of the maps is shown."""
        view = self.view
        assert view.part is not None
        part = Text(part_shown(maps, view.part, ramp), "dim")
        if view.enlarged:
            return _one_line_each(cell_text(maps, view.selected, view.cursor, self._example), "\n", part)
        return _one_line_each(Text(head_text(view.selected, view.heads), "bold"), "\n", legend(ramp), part)

    @property
    def _example(self) -> Example:
        """The example of the maps that are shown; those of the example in `row` may not have arrived yet."""
        assert self._state.ready is not None
        row = self.row if self._measured is None else self._measured.row
        return Example(self._rows, row, self._state.ready.tokenizer)

    def about(self) -> Text:
        title = Text("attention ", "bold")
        measured = self._measured
        if measured is None:
            weights = "no weights yet"
            waiting = "for the script's next step" if self._state.is_script else NO_MAPS_YET
            second = Text(f"waiting {waiting}", "dim")
        else:
            weights = weights_text(measured)
            second = summary(measured.maps, self.view.heads)
        return _one_line_each(title, f"{weights} ({self._state.phase}); {self._example.title}\n", second)

    # Keys

    def on_attention_view_changed(self) -> None:
        self.redraw()

    def action_enlarge(self) -> None:
        self.view.toggle_enlarged()

    def action_back(self) -> None:
        if self.view.enlarged:
            self.view.toggle_enlarged()
        else:
            self.dismiss(None)

    def action_sharpest(self) -> None:
        self.view.select_sharpest()

    def action_head(self, by: int) -> None:
        self.view.select_next_head(by)

    def action_move(self, down: int, right: int) -> None:
        self.view.move(down, right)

    def action_end(self, last: bool) -> None:
        self.view.move_to_end(last=last)

    def action_example(self, by: int) -> None:
        self.row = (self.row + by) % len(self._rows.x)
        self._source.reset()
        self.tick()

    def action_help(self) -> None:
        self.app.push_screen(Help("attention", self._state.run_config))


def _one_line_each(*parts: Text | str) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
