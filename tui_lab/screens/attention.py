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
from textual.widgets import Footer, Static

from core import commands as cmd
from core.attention import AttentionMaps, Head, heads_of
from data.dataset import IGNORED, Task
from data.loader import Batch
from data.tokenizers import show
from tui_lab.live.buffer import Buffer
from tui_lab.live.state import LabState
from tui_lab.screens.help import Help
from tui_lab.widgets.chart import has_braille
from tui_lab.widgets.heatmap import LETTERS, SHADES, Lines, Ramp, fitting, ramp_of
from tui_lab.widgets.maps import Grid, Window, grid_of, large_map, small_maps, window_of

if TYPE_CHECKING:
    from core.foreign import Model

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


class AttentionScreen(Screen[None]):
    """Over one batch of a run, whose weights are looked at again as they change. Closed, it costs nothing."""

    CSS_PATH = "attention.tcss"
    BINDINGS = [
        Binding("enter", "enlarge", "Large"),
        Binding("escape,q", "back", "Back"),
        Binding("h", "sharpest", "Sharpest"),
        Binding("left_square_bracket", "head(-1)", "Head before", show=False),
        Binding("right_square_bracket", "head(1)", "Next head", key_display="[ ]"),
        Binding("n", "example(1)", "Example", key_display="n N"),
        Binding("N", "example(-1)", "Example before", show=False),
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
        self._looks = Buffer()
        self._looked: Looked | None = None
        self._asked_for: object = None
        self._asked_at, self._paint_again_at = -math.inf, -math.inf
        self.heads: list[Head] = []
        self.chosen: tuple[int, int] | None = None
        self.cursor, self.large = (0, 0), False
        self._drawn: Grid | Window | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="about")
        yield Lines(id="maps")
        yield Static(id="value")
        yield Footer(show_command_palette=False, compact=True)

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
            if isinstance(looked, Looked) and looked.row == self.row:
                self._take(looked)
        if self._drawn is None and now >= self._paint_again_at:
            self.redraw()
        elif self.is_current:
            self._say("#about", self._about())
        self._ask(now)

    def _take(self, looked: Looked) -> None:
        self._looked, self._drawn = looked, None
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
        wanted = (self.row, state.step)
        if state.phase == "loading" or wanted == self._asked_for:
            return
        dear = self._looked.seconds / LOOKING_SHARE if self._looked and state.phase == "running" else 0.0
        same = self._asked_for is not None and wanted[0] == self.row and self._looked is not None
        if same and now - self._asked_at < max(SECONDS_BETWEEN_LOOKS, dear):
            return
        self._asked_for, self._asked_at = wanted, now
        x, row, step, put = self._batch.x[self.row], self.row, state.step, self._looks.put

        def look(model: "Model") -> None:
            from core.inspection import attention_maps

            began = time.perf_counter()
            maps = attention_maps(model, x)
            put(Looked(step, row, maps, time.perf_counter() - began))

        self._send(cmd.Inspect(look))

    # What can be seen

    @property
    def _task(self) -> Task:
        assert self._state.ready is not None
        return self._state.ready.task

    def _ramp(self) -> Ramp:
        signs = SHADES if has_braille() else LETTERS
        return Ramp((), "", signs) if self.app.no_color or not has_braille() else ramp_of(self.app.current_theme)

    def redraw(self) -> None:
        began = time.thread_time()
        looked = self._looked
        self._say("#about", self._about())
        if looked is not None and looked.maps is not None and self.chosen is not None:
            self._draw(looked.maps, self.chosen)
            self._say("#value", self._value(looked.maps, self.chosen))
        self._paint_again_at = self._clock() + (time.thread_time() - began) / PAINT_SHARE

    def _say(self, selector: str, text: Text) -> None:
        widget = self.query_one(selector, Static)
        if widget.content != text:
            widget.update(text, layout=False)

    def _draw(self, maps: AttentionMaps, chosen: tuple[int, int]) -> None:
        lines, ramp = self.query_one(Lines), self._ramp()
        width, height = lines.size
        if self.large:
            self._drawn = window_of(maps.weights.shape[-1], self.cursor, width, height)
            drawn = large_map(maps.weights[chosen], self._names(maps), self.cursor, self._drawn, ramp, maps.block)
        else:
            self._drawn = grid_of(maps.layers, maps.heads, chosen, width, height)
            notes = {(head.layer, head.head): f"{head.sharpness:.2f}" for head in self.heads}
            drawn = small_maps(maps.weights, notes, chosen, self._drawn, ramp)
        lines.put(drawn)

    def _names(self, maps: AttentionMaps) -> list[str]:
        return [show(self._task.tokenizer, token) for token in self._batch.x[self.row].tolist()[:: maps.block]]

    def _about(self) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        batch, looked = self._batch, self._looked
        weights = "weights of the run's end" if self._replayed else "no weights yet"
        if looked is not None and not self._replayed:
            weights = f"weights of step {looked.step:,}"
        example = f"example {batch.ids[self.row]} ({self.row + 1}/{len(batch.ids)}) of step {batch.step:,}"
        text.append("attention ", "bold").append(f"{weights} ({self._state.phase}); {example}\n")
        if looked is None:
            return text.append("the model answers at its next step; a replay needs a checkpoint for it", "dim")
        if looked.maps is None:
            return text.append("model.source: another model than the lab's own does not tell its attention weights")
        if looked.maps.sees_later:
            return text.append("✗ there is weight on later positions: no causal mask. ", "bold").append(
                self._sharpest()
            )
        return text.append(self._sharpest())

    def _sharpest(self) -> str:
        if not self.heads:
            return "positions in blocks: no head is ranked"
        head = self.heads[0]
        return f"sharpest: {_named(head)}"

    def _value(self, maps: AttentionMaps, chosen: tuple[int, int]) -> Text:
        text = Text(no_wrap=True, overflow="ellipsis")
        head = next((h for h in self.heads if (h.layer, h.head) == chosen), None)
        if self.large:
            text.append(self._under_cursor(maps, chosen))
        else:
            text.append(_named(head) if head else f"layer {chosen[0]}, head {chosen[1]}", "bold")
        text.append("\n").append_text(self._shown(maps))
        return text

    def _under_cursor(self, maps: AttentionMaps, chosen: tuple[int, int]) -> Text:
        t, s = self.cursor
        names, value = self._names(maps), float(maps.weights[chosen][t, s])
        text = Text.assemble((f"layer {chosen[0]}, head {chosen[1]}: ", "bold"))
        if maps.block > 1:
            first = f"queries from {t * maps.block} on, keys from {s * maps.block} on"
            return text.append(f"{first}, {maps.block} each: at most {value:.3f}")
        target = int(self._batch.y[self.row][t])
        wanted = "no target" if target == IGNORED else f"to say {show(self._task.tokenizer, target)}"
        return text.append(f"t = {t} {names[t]} ({wanted}) looks at s = {s} {names[s]}: ").append(
            f"{value:.3f}", "bold"
        )

    def _shown(self, maps: AttentionMaps) -> Text:
        """The scale, and which part of what there is can be seen."""
        ramp, n = self._ramp(), maps.weights.shape[-1]
        text = Text(style="dim")
        if not self.large or not ramp.colours:
            for value, level in ramp.legend():
                sign = Text("██", ramp.colour(level)) if ramp.colours else Text(ramp.sign(level))
                text.append_text(sign).append(f" {value:g} ")
            text.append(" query ↓ key → ")
        if isinstance(self._drawn, Window):
            every = f" blocks of {maps.block}" if maps.block > 1 else ""
            parts = (("queries", self._drawn.rows), ("keys", self._drawn.columns))
            return text.append(" ".join(f" {name} {part.words}{every}" for name, part in parts))
        if isinstance(self._drawn, Grid):
            parts = (("layers", self._drawn.rows), ("heads", self._drawn.columns))
            text.append(" ".join(f" {name} {part.words}" for name, part in parts if not part.whole))
            points, _ = fitting(n, ramp, self._drawn.width - 1, self._drawn.height - 1)
            if points < n or maps.block > 1:
                text.append(f" {maps.length} positions, a point the largest of {-(-n // points) * maps.block}×as many")
        return text

    # What the keys do

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self.redraw)

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


def _named(head: Head) -> str:
    """A head in words."""
    where = f", {head.share:.0%} of its weight on {head.pattern}" if head.pattern else ", nowhere in particular"
    return f"layer {head.layer}, head {head.head}: sharpness {head.sharpness:.2f}{where}"
