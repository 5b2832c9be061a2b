"""Decide which panes of the lab are visible in a terminal of a given size."""

from collections.abc import Sequence

from textual.geometry import Size

ONE_PANE_BELOW = Size(116, 30)
"""With fewer columns or lines only the active pane is shown."""
TOO_SMALL_BELOW = Size(40, 12)
TALL_FROM = 45
"""Lines from which all six panes are shown."""
LOWER_ROW = (5, 6)
"""Numbers of the panes that need a third row."""


def fits(size: Size, least: Size) -> bool:
    return size.width >= least.width and size.height >= least.height


class PaneLayout:
    """Hold what decides which panes are visible: the terminal's size, the active pane and zoom."""

    def __init__(self, numbers: Sequence[int], active: int) -> None:
        self._numbers = numbers
        self.active = active
        self.zoomed = False
        self.size = Size(0, 0)

    @property
    def visible(self) -> set[int]:
        """The numbers of the visible panes."""
        if self._single or self.zoomed:
            return {self.active}
        return {number for number in self._numbers if number not in LOWER_ROW or self._tall or number == self.active}

    @property
    def classes(self) -> dict[str, bool]:
        """The screen's CSS classes, and whether each is set."""
        one_pane = self._single or self.zoomed
        return {
            "-small": not fits(self.size, TOO_SMALL_BELOW),
            "-single": self._single,
            "-tall": self._tall,
            "-zoomed": self.zoomed,
            "-below": not one_pane and self.active in LOWER_ROW and not self._tall,
        }

    @property
    def _single(self) -> bool:
        return not fits(self.size, ONE_PANE_BELOW)

    @property
    def _tall(self) -> bool:
        return self.size.height >= TALL_FROM
