"""What every head looks at in one example, while the model learns."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Static

from tui_lab.app.screens import attention_text as words
from tui_lab.app.screens.attention_text import Example
from tui_lab.app.screens.help import Help
from tui_lab.app.session.buffer import Buffer
from tui_lab.app.session.state import LabState
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.attention_grid import Grid, Window, grid_of, large_map, small_maps, window_of
from tui_lab.app.widgets.chart import has_braille
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.heatmap import LETTERS, SHADES, Lines, Ramp, ramp_of
from tui_lab.core import commands as cmd
from tui_lab.core.inference.attention import AttentionMaps, Head, heads_of
from tui_lab.data.dataset import IGNORED
from tui_lab.data.loader import Batch

if TYPE_CHECKING:
    from tui_lab.core.user_code.external_model import Model

SECONDS_BETWEEN_TICKS, SECONDS_BETWEEN_LOOKS = 0.25, 1.0
LOOKING_SHARE, PAINT_SHARE = 0.002, 0.02
"""Of the training's time, and of a core."""


@dataclass(frozen=True)
class Looked:
    """What the training's thread found: at which step, for which row of the batch, in how many seconds."""

    step: int
    row: int
    maps: AttentionMaps | None
    seconds: float


class AttentionScreen(BaseScreen[None], Screen[None]):
    """Over one batch of a run, whose weights are looked at again as they change. Closed, it costs nothing."""

    CSS_PATH = "attention.tcss"
    BINDINGS = [
        Binding("enter", "enlarge", "Zoom"),
        Binding("escape,q", "back", "Back"),
        Binding("h", "sharpest", "Sharpest"),
        Binding("left_square_bracket", "head(-1)", "Previous head", show=False),
        Binding("right_square_bracket", "head(1)", "Next head", key_display="[ ]"),
        Binding("n", "example(1)", "Example", key_display="n N"),
        Binding("N", "example(-1)", "Previous example", show=False),
        Binding("space", "steer('pause')", "Pause"),
        Binding("s", "steer('step')", "Step"),
        Binding("t", "app.next_theme", "Theme", show=False),
        Binding("question_mark,f1", "help", "Help", key_display="?"),
        Binding("left", "move(0, -1)", show=False),
        Binding("right", "move(0, 1)", show=False),
        Binding("up", "move(-1, 0)", show=False),
        Binding("down", "move(1, 0)", show=False),
        Binding("home", "end(0)", show=False),
        Binding("end", "end(1)", show=False),
    ]

    def __init__(
        self,
        state: LabState,
        batch: Batch,
        row: int,
        send: Callable[[cmd.Command], None],
        steer: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        *,
        replayed: bool = False,
    ) -> None:
        super().__init__()
        self._state, self._batch, self.row = state, batch, row
        self._send, self._steer, self._clock, self._replayed = send, steer, clock, replayed
        self._looks = Buffer[Looked]()
        self._looked: Looked | None = None
        self._asked_for: object = None
        self._asked_at, self._paint_again_at = -math.inf, -math.inf
        self.heads: list[Head] = []
        self.chosen: tuple[int, int] | None = None
        self.cursor, self.large = (0, 0), False
        self._drawn: Grid | Window | None = None
        self._stale = True

    def compose(self) -> ComposeResult:
        yield Static(id="about")
        yield Lines(id="maps")
        yield Static(id="value")
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(Lines).focus()
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.redraw())
        self.tick()

    def tick(self) -> None:
        """Take the newest look, draw it, and ask for the next one where the weights have changed."""
        if not self.is_attached:
            return
        now = self._clock()
        for looked in self._looks.drain():
            if looked.row == self.row:
                self._take(looked)
        if self._stale and now >= self._paint_again_at:
            self.redraw()
        elif self.is_current:
            self._say("#about", self._about())
        self._ask(now)

    def _take(self, looked: Looked) -> None:
        self._looked, self._stale = looked, True
        if looked.maps is None:
            return
        self.heads = heads_of(looked.maps, self._batch.y[self.row] != IGNORED)
        if self.chosen is None:
            self.chosen = (self.heads[0].layer, self.heads[0].head) if self.heads else (0, 0)
            last = looked.maps.weights.shape[-1] - 1
            self.cursor = (last, last)

    def _ask(self, now: float) -> None:
        """At once for another example, else as seldom as its cost demands."""
        state = self._state
        wanted = (self.row, 0 if self._replayed else state.step)
        if state.phase == "loading" or wanted == self._asked_for:
            return
        dear = self._looked.seconds / LOOKING_SHARE if self._looked and state.phase == "running" else 0.0
        same = self._asked_for is not None and wanted[0] == self.row and self._looked is not None
        if same and now - self._asked_at < max(SECONDS_BETWEEN_LOOKS, dear):
            return
        self._asked_for, self._asked_at = wanted, now
        x, row, step, put = self._batch.x[self.row], self.row, state.step, self._looks.put

        def look(model: "Model") -> None:
            from tui_lab.core.inference.example import attention_maps

            began = time.perf_counter()
            maps = attention_maps(model, x)
            put(Looked(step, row, maps, time.perf_counter() - began))

        self._send(cmd.Inspect(look))

    # What can be seen

    def _ramp(self) -> Ramp:
        signs = SHADES if has_braille() else LETTERS
        return Ramp((), "", signs) if self.app.no_color or not has_braille() else ramp_of(self.app.current_theme)

    def redraw(self) -> None:
        began, looked, self._stale = time.thread_time(), self._looked, False
        self._say("#about", self._about())
        if looked is not None and looked.maps is not None and self.chosen is not None:
            self._draw(looked.maps, self.chosen)
        self._paint_again_at = self._clock() + (time.thread_time() - began) / PAINT_SHARE

    def _say(self, selector: str, text: Text) -> None:
        widget = self.query_one(selector, Static)
        if widget.content != text:
            widget.update(text, layout=False)

    def _draw(self, maps: AttentionMaps, chosen: tuple[int, int]) -> None:
        lines, ramp, example = self.query_one(Lines), self._ramp(), self._example
        width, height = lines.size
        if self.large:
            self._drawn = window_of(maps.weights.shape[-1], self.cursor, width, height)
            drawn = large_map(
                maps.weights[chosen], example.names(maps.block), self.cursor, self._drawn, ramp, maps.block
            )
            said = words.under_cursor(maps, chosen, self.cursor, example)
        else:
            self._drawn = grid_of(maps.layers, maps.heads, chosen, width, height)
            notes = {(head.layer, head.head): f"{head.sharpness:.2f}" for head in self.heads}
            drawn = small_maps(maps.weights, notes, chosen, self._drawn, ramp)
            here = [words.in_words(head) for head in self.heads if (head.layer, head.head) == chosen]
            said = Text(here[0] if here else f"layer {chosen[0]}, head {chosen[1]}", "bold")
        lines.put(drawn)
        part = Text(words.part_shown(maps, self._drawn, ramp), "dim")
        self._say("#value", _line(said, "\n", *([words.scale(ramp)] if not self.large else []), part))

    @property
    def _example(self) -> Example:
        """What the maps that are shown are of: another one may be on its way."""
        assert self._state.ready is not None
        row = self.row if self._looked is None else self._looked.row
        return Example(self._batch, row, self._state.ready.task)

    def _about(self) -> Text:
        looked = self._looked
        weights = "no weights yet" if looked is None else f"weights of step {looked.step:,}"
        first = f"{'the last weights' if self._replayed else weights} ({self._state.phase}); {self._example.words}\n"
        if looked is None:
            waiting = Text("waiting for the trainer's next step; a replay needs a checkpoint", "dim")
            return _line(Text("attention ", "bold"), first, waiting)
        return _line(Text("attention ", "bold"), first, words.sharpest(looked.maps, self.heads))

    # What the keys do

    def on_resize(self, event: Resize) -> None:
        # By the next tick its parts have their sizes. What is called after a refresh is called by whatever is on top.
        self._stale, self._paint_again_at = True, -math.inf

    def action_enlarge(self) -> None:
        self.large = not self.large
        self.redraw()

    def action_back(self) -> None:
        if self.large:
            self.action_enlarge()
        else:
            self.dismiss(None)

    def _go_to(self, chosen: tuple[int, int]) -> None:
        if self._looked is not None and (maps := self._looked.maps) is not None:
            self.chosen = (chosen[0] % maps.layers, chosen[1] % maps.heads)
            self.redraw()

    def action_sharpest(self) -> None:
        if self.heads:
            self._go_to((self.heads[0].layer, self.heads[0].head))

    def action_head(self, by: int) -> None:
        """The next head, of the next layer after the last one."""
        if self.chosen is not None and self._looked is not None and (maps := self._looked.maps) is not None:
            self._go_to(divmod(self.chosen[0] * maps.heads + self.chosen[1] + by, maps.heads))

    def action_move(self, down: int, across: int) -> None:
        if self.chosen is None:
            return
        if self.large:
            self._point_at(self.cursor[0] + down, self.cursor[1] + across)
        else:
            self._go_to((self.chosen[0] + down, self.chosen[1] + across))

    def action_end(self, end: int) -> None:
        if self.large:
            self._point_at(self.cursor[0], end * 10**9)
        else:
            self._go_to((-end, -end))

    def _point_at(self, t: int, s: int) -> None:
        if self._looked is not None and (maps := self._looked.maps) is not None:
            last = maps.weights.shape[-1] - 1
            self.cursor = (max(0, min(last, t)), max(0, min(last, s)))
            self.redraw()

    def on_lines_clicked(self, event: Lines.Clicked) -> None:
        """To what is under the mouse; a click on the chosen map enlarges it."""
        if isinstance(self._drawn, Window):
            self._point_at(*self._drawn.at(event.x, event.y))
        elif isinstance(self._drawn, Grid):
            under = self._drawn.at(event.x, event.y)
            if under == self.chosen:
                self.action_enlarge()
            else:
                self._go_to(under)

    def action_example(self, by: int) -> None:
        self.row = (self.row + by) % len(self._batch.ids)
        self._asked_for, self._asked_at = None, -math.inf
        self.tick()

    def action_steer(self, what: str) -> None:
        self._steer(what)

    def action_help(self) -> None:
        self.app.push_screen(Help("attention"))


def _line(*parts: Text | str) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
