"""Texts of the attention screen: the example, the sharpest head, the selected cell, and the part that is shown."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from tui_lab.app.session.attention_source import MeasuredMaps, Rows
from tui_lab.app.token_text import class_tokenizer, token_text
from tui_lab.app.widgets.attention_grid import Grid, Window
from tui_lab.app.widgets.heatmap import Ramp, fitting
from tui_lab.core.inference.attention import AttentionMaps, Head
from tui_lab.data.dataset import IGNORED
from tui_lab.data.tokenizers import Tokenizer
from tui_lab.util.escape import printable


@dataclass(frozen=True)
class Example:
    """One row of a batch."""

    rows: Rows
    row: int
    tokenizer: Tokenizer

    @property
    def title(self) -> str:
        return f"{self.rows.names[self.row]} of step {self.rows.step + 1:,}"

    def names(self, every: int = 1) -> list[str]:
        """Return the tokens of its input, or every `every`-th of them."""
        return [token_text(self.tokenizer, token) for token in self.rows.x[self.row].tolist()[::every]]

    @functools.cached_property
    def target_tokenizer(self) -> Tokenizer:
        """How targets and predictions are shown, which may be classes."""
        return class_tokenizer(self.rows.n_classes, self.rows.class_names) or self.tokenizer

    @property
    def targets(self) -> list[int]:
        """The ids of its targets, some of them ignored."""
        ids: list[int] = self.rows.y[self.row].tolist()
        return ids

    def target(self, t: int) -> str:
        token = int(self.rows.y[self.row][t])
        return "no target" if token == IGNORED else f"target {token_text(self.target_tokenizer, token)}"


def _sharpness_text(head: Head) -> str:
    pattern = f"{head.share:.0%} on {head.pattern}" if head.pattern else "no fixed offset"
    return f"layer {head.layer}, head {head.head}: sharpness {head.sharpness:.2f}, {pattern}"


def head_text(selected: tuple[int, int], heads: Sequence[Head]) -> str:
    """Return the selected head's name, and its sharpness if it is among `heads`."""
    for head in heads:
        if (head.layer, head.head) == selected:
            return _sharpness_text(head)
    return f"layer {selected[0]}, head {selected[1]}"


def weights_text(measured: MeasuredMaps) -> str:
    """Return with which weights the maps are measured."""
    if measured.step < 0:
        return "no weights"
    if measured.weights is None:
        return f"weights of step {measured.step:,}"
    return f"{'best weights, of' if measured.weights.best else 'weights of'} step {measured.weights.step:,}"


def summary(maps: AttentionMaps | str, heads: Sequence[Head]) -> Text:
    """Return the sharpest head, after a warning if later positions have weight; or why there are no maps.

    heads: sharpest first.
    """
    if isinstance(maps, str):
        return Text(printable(maps))
    warning = "✗ weight on later positions: no causal mask. " if maps.sees_later else ""
    sharpest = f"sharpest: {_sharpness_text(heads[0])}" if heads else "positions are grouped in blocks: no sharpness"
    return Text.assemble((warning, "bold"), sharpest)


def cell_text(maps: AttentionMaps, head: tuple[int, int], cell: tuple[int, int], example: Example) -> Text:
    """Return the weight of the selected cell (query, key), or of its block of positions."""
    query, key = cell
    weight = float(maps.weights[head][query, key])
    block = maps.block
    text = Text.assemble((f"layer {head[0]}, head {head[1]}: ", "bold"))
    if block > 1:
        return text.append(f"queries from {query * block}, keys from {key * block}, {block} each: at most {weight:.3f}")
    names = example.names()
    text.append(f"t = {query}: “{names[query]}” ({example.target(query)}) attends to s = {key}: “{names[key]}”  ")
    return text.append(f"{weight:.3f}", "bold")


def legend(ramp: Ramp) -> Text:
    """Return the color of some weights, and the meaning of the axes."""
    text = Text(style="dim")
    for value, level in ramp.legend():
        sign = Text("█", ramp.color(level)) if ramp.colors else Text(ramp.sign(level))
        text.append_text(sign).append(f" {value:g} ")
    return text.append(" query ↓ key → ")


def part_shown(maps: AttentionMaps, part: Grid | Window, ramp: Ramp) -> str:
    """Return which part of the maps is shown; empty if all of it."""
    if isinstance(part, Window):
        blocks = f" blocks of {maps.block}" if maps.block > 1 else ""
        return f"queries {part.rows.label}{blocks}, keys {part.columns.label}{blocks}"
    axes = (("layers", part.rows), ("heads", part.columns))
    parts = [f"{name} {axis.label}" for name, axis in axes if not axis.whole]
    n = maps.weights.shape[-1]
    points, _ = fitting(n, ramp, part.width - 1, part.height - 1)
    if points < n or maps.block > 1:
        side = -(-n // points) * maps.block
        parts.append(f"{maps.length} positions, largest of {side}×{side}")
    return ", ".join(parts)
