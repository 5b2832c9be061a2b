"""Attention in words: whose weights, which head is the sharpest, what is under the cursor, what of it can be seen."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from tui_lab.app.widgets.attention_grid import Grid, Window
from tui_lab.app.widgets.heatmap import Ramp, fitting
from tui_lab.core.inference.attention import AttentionMaps, Head
from tui_lab.data.dataset import IGNORED, Task
from tui_lab.data.loader import Batch
from tui_lab.data.tokenizers import show


@dataclass(frozen=True)
class Example:
    """One row of a batch."""

    batch: Batch
    row: int
    task: Task

    @property
    def words(self) -> str:
        ids = self.batch.ids
        return f"example {ids[self.row]} ({self.row + 1}/{len(ids)}) of step {self.batch.step:,}"

    def names(self, every: int = 1) -> list[str]:
        """Its tokens, or each `every`th of them."""
        return [show(self.task.tokenizer, token) for token in self.batch.x[self.row].tolist()[::every]]

    def wanted(self, t: int) -> str:
        target = int(self.batch.y[self.row][t])
        return "no target" if target == IGNORED else f"target {show(self.task.tokenizer, target)}"


def in_words(head: Head) -> str:
    where = f", {head.share:.0%} on {head.pattern}" if head.pattern else ", no fixed offset"
    return f"layer {head.layer}, head {head.head}: sharpness {head.sharpness:.2f}{where}"


def sharpest(maps: AttentionMaps | None, heads: Sequence[Head]) -> Text:
    """The second line: what all maps together say."""
    if maps is None:
        return Text("attention weights are available for the built-in model only, not for model.source")
    unmasked = "✗ weight on later positions: no causal mask. " if maps.sees_later else ""
    best = f"sharpest: {in_words(heads[0])}" if heads else "positions are grouped in blocks: no sharpness"
    return Text.assemble((unmasked, "bold"), best)


def under_cursor(maps: AttentionMaps, chosen: tuple[int, int], cursor: tuple[int, int], example: Example) -> Text:
    t, s = cursor
    value, every = float(maps.weights[chosen][t, s]), maps.block
    text = Text.assemble((f"layer {chosen[0]}, head {chosen[1]}: ", "bold"))
    if every > 1:
        return text.append(f"queries from {t * every}, keys from {s * every}, {every} each: at most {value:.3f}")
    names = example.names()
    text.append(f"t = {t} {names[t]} ({example.wanted(t)}) attends to s = {s} {names[s]}: ")
    return text.append(f"{value:.3f}", "bold")


def scale(ramp: Ramp) -> Text:
    text = Text(style="dim")
    for value, level in ramp.legend():
        sign = Text("█", ramp.colour(level)) if ramp.colours else Text(ramp.sign(level))
        text.append_text(sign).append(f" {value:g} ")
    return text.append(" query ↓ key → ")


def part_shown(maps: AttentionMaps, drawn: Grid | Window, ramp: Ramp) -> str:
    """Which part of what there is can be seen; nothing where it is all of it."""
    if isinstance(drawn, Window):
        every = f" blocks of {maps.block}" if maps.block > 1 else ""
        return f"queries {drawn.rows.words}{every}, keys {drawn.columns.words}{every}"
    parts = [
        f"{name} {part.words}" for name, part in (("layers", drawn.rows), ("heads", drawn.columns)) if not part.whole
    ]
    n = maps.weights.shape[-1]
    points, _ = fitting(n, ramp, drawn.width - 1, drawn.height - 1)
    if points < n or maps.block > 1:
        side = -(-n // points) * maps.block
        parts.append(f"{maps.length} positions, largest of {side}×{side}")
    return ", ".join(parts)
