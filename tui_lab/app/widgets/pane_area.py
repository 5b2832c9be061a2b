"""The area of the lab's panes, which places each where the layout says."""

from collections.abc import Callable, Mapping

from textual.events import Resize
from textual.geometry import NULL_OFFSET, NULL_SPACING, Region, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.message import Message
from textual.widget import Widget

Regions = Callable[[Size], Mapping[Widget, Region]]


class _PlaceAtRegions(Layout):
    name = "regions"

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        parent.pre_layout(self)
        regions = self._regions(size)
        return [
            WidgetPlacement(regions[child], NULL_OFFSET, NULL_SPACING, child) for child in children if child in regions
        ]


class PaneArea(Widget):
    """`regions` returns where each child is in an area of a given size; children without a region are not shown."""

    class Resized(Message):
        """The area has another size."""

    def __init__(self, *children: Widget, regions: Regions, id: str) -> None:
        super().__init__(*children, id=id)
        self._regions_layout = _PlaceAtRegions(regions)

    @property
    def layout(self) -> Layout:
        return self._regions_layout

    def on_resize(self, event: Resize) -> None:
        self.post_message(self.Resized())
