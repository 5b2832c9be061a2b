"""The area of the lab's panes: which are visible, where, and which one is active."""

from collections.abc import Callable, Sequence

from textual.events import Resize
from textual.geometry import NULL_OFFSET, NULL_SPACING, Size
from textual.layout import ArrangeResult, Layout, WidgetPlacement
from textual.widget import Widget

from tui_lab.app.panes.layout import Name, PaneLayout
from tui_lab.app.panes.pane import Pane
from tui_lab.app.session.state import LabState


class _PlaceAsPlanned(Layout):
    """Places each pane where the plan has its number."""

    name = "planned"

    def __init__(self, plan: PaneLayout) -> None:
        self._plan = plan

    def arrange(self, parent: Widget, children: list[Widget], size: Size, greedy: bool = True) -> ArrangeResult:
        parent.pre_layout(self)
        regions = self._plan.regions(size)
        return [
            WidgetPlacement(regions[pane.number], NULL_OFFSET, NULL_SPACING, pane)
            for pane in children
            if isinstance(pane, Pane) and pane.number in regions
        ]


class PaneArea(Widget):
    """active: the number of the pane with the focus. arranged: called after the panes were placed."""

    def __init__(
        self, panes: Sequence[Pane], active: int, layout: Name, *, arranged: Callable[[PaneLayout], object], id: str
    ) -> None:
        super().__init__(*panes, id=id)
        self._panes = panes
        self._plan = PaneLayout([pane.number for pane in panes], active, layout)
        self._planned_layout = _PlaceAsPlanned(self._plan)
        self._arranged = arranged
        self._shown = LabState()
        """What the title lines are about."""

    @property
    def layout(self) -> Layout:
        return self._planned_layout

    @property
    def active(self) -> Pane:
        return next(pane for pane in self._panes if pane.number == self._plan.active)

    def activate(self, number: int) -> None:
        """Make a pane visible and the active one."""
        self._plan.active = number
        self.place_panes()

    def zoom(self) -> None:
        """Show the active pane alone, or all panes again."""
        self.show_alone(not self._plan.zoomed)

    def show_alone(self, alone: bool) -> None:
        """Show the active pane alone, or all panes."""
        if alone != self._plan.zoomed:
            self._plan.zoomed = alone
            self.place_panes()

    async def on_pane_title_clicked(self, message: Pane.TitleClicked) -> None:
        """Go to the pane, or zoom if it is the active one; the second of two clicks must not undo that."""
        message.stop()
        if message.number != self.active.number:
            await self.run_action(f"screen.do('pane_{message.number}')")
        elif message.n_clicks == 1 or not self._plan.zoomed:
            self.zoom()

    def next_layout(self) -> Name:
        """Go to the next layout; return its name."""
        self._plan.next()
        self.place_panes()
        return self._plan.name

    def update(self, shown: LabState) -> None:
        """Give room to a pane that has something to show now, and take it from one that has not."""
        self._shown = shown
        with_content = {pane.number for pane in self._panes if pane.has_content(shown)}
        if with_content != self._plan.with_content:
            self._plan.with_content = with_content
            self.place_panes()

    def on_resize(self, event: Resize) -> None:
        self.place_panes()

    def place_panes(self) -> None:
        """Place the panes in a terminal of the present size."""
        # What stands at the side of the area takes columns away from the panes.
        self._plan.size = Size(self.size.width or self.app.size.width, self.app.size.height)
        regions = self._plan.regions(self.size or self.app.size)
        for pane in self._panes:
            pane.display = pane.number in regions
            pane.set_line(pane.number in regions and regions[pane.number].height == 1, self._shown)
        self.refresh(layout=True)
        self._arranged(self._plan)
