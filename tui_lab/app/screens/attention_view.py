"""The attention maps of one example: all heads, or one head enlarged, and which head or cell is selected."""

from collections.abc import Sequence

from textual.events import Click
from textual.message import Message

from tui_lab.app.widgets.attention_grid import Grid, Window, grid_of, large_map, small_maps, window_of
from tui_lab.app.widgets.heatmap import Lines, Ramp
from tui_lab.core.inference.attention import AttentionMaps, Head

HeadIndex = tuple[int, int]
"""Layer and head."""


class AttentionView(Lines):
    """Call `set_maps`, then `draw`. Posts `Changed` when the selection changes: then call `draw` again."""

    class Changed(Message):
        """Another head or cell was selected, or a head was enlarged or reduced."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.maps: AttentionMaps | None = None
        self.heads: Sequence[Head] = ()
        """Sharpest first; empty if positions are grouped in blocks."""
        self.selected: HeadIndex = (0, 0)
        self.cursor = (0, 0)
        """Query and key of the selected cell."""
        self.enlarged = False
        self.part: Grid | Window | None = None
        """What is drawn: a grid of small maps, or a window into one map."""

    def set_maps(self, maps: AttentionMaps, heads: Sequence[Head]) -> None:
        """Take new weights. The first time, select the sharpest head and its last cell."""
        if self.maps is None:
            self.selected = (heads[0].layer, heads[0].head) if heads else (0, 0)
            last = maps.weights.shape[-1] - 1
            self.cursor = (last, last)
        self.maps = maps
        self.heads = heads

    def draw(self, ramp: Ramp, names: Sequence[str]) -> None:
        """Draw the maps. names: the tokens of the example, one per position or block."""
        if self.maps is None:
            return
        width, height = self.size
        weights = self.maps.weights
        if self.enlarged:
            window = window_of(weights.shape[-1], self.cursor, width, height)
            self.part = window
            self.put(large_map(weights[self.selected], names, self.cursor, window, ramp, self.maps.block))
        else:
            grid = grid_of(self.maps.layers, self.maps.heads, self.selected, width, height)
            self.part = grid
            sharpness = {(head.layer, head.head): f"{head.sharpness:.2f}" for head in self.heads}
            self.put(small_maps(weights, sharpness, self.selected, grid, ramp))

    def toggle_enlarged(self) -> None:
        self.enlarged = not self.enlarged
        self.post_message(self.Changed())

    def select_head(self, layer: int, head: int) -> None:
        """Select a head; indices wrap around."""
        if self.maps is not None:
            self.selected = (layer % self.maps.layers, head % self.maps.heads)
            self.post_message(self.Changed())

    def select_sharpest(self) -> None:
        if self.heads:
            self.select_head(self.heads[0].layer, self.heads[0].head)

    def select_next_head(self, by: int) -> None:
        """Select the head `by` places further, across layers."""
        if self.maps is not None:
            layer, head = self.selected
            self.select_head(*divmod(layer * self.maps.heads + head + by, self.maps.heads))

    def select_cell(self, query: int, key: int) -> None:
        """Move the cursor of the enlarged map, within its edges."""
        if self.maps is not None:
            last = self.maps.weights.shape[-1] - 1
            self.cursor = (max(0, min(last, query)), max(0, min(last, key)))
            self.post_message(self.Changed())

    def move(self, down: int, right: int) -> None:
        """Move to a neighboring cell in the enlarged map, otherwise to a neighboring head."""
        if self.enlarged:
            self.select_cell(self.cursor[0] + down, self.cursor[1] + right)
        else:
            self.select_head(self.selected[0] + down, self.selected[1] + right)

    def move_to_end(self, *, last: bool) -> None:
        """Move to the first or last key of the enlarged map, otherwise to the first or last head."""
        if self.maps is None:
            return
        if self.enlarged:
            self.select_cell(self.cursor[0], self.maps.weights.shape[-1] - 1 if last else 0)
        else:
            self.select_head(-1 if last else 0, -1 if last else 0)

    def on_click(self, event: Click) -> None:
        """Select the cell or head under the mouse; a click on the selected head enlarges it."""
        if isinstance(self.part, Window):
            self.select_cell(*self.part.at(event.x, event.y))
        elif isinstance(self.part, Grid):
            clicked = self.part.at(event.x, event.y)
            if clicked == self.selected:
                self.toggle_enlarged()
            else:
                self.select_head(*clicked)
