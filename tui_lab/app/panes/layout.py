"""Where the panes of the lab are, in a terminal of a given size: three sizes, four layouts.

A layout is a tree of rows and columns. A stack in it shows one pane below another; panes that have nothing to show, or
no room, are only their title line there. Narrow terminals show the panes in one stack, small ones a single pane.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from textual.geometry import Region, Size

ONE_PANE_BELOW = Size(70, 30)
"""With fewer columns or lines only the active pane is shown."""
ROW_FROM = Size(116, 30)
"""From here on panes stand next to each other."""
WIDE_FROM = 170
"""Columns from which the stack has a column of its own."""
TOO_SMALL_BELOW = Size(40, 12)
CONFIG_WIDTH = 44
ACTIVE_SHARE = 3
"""Of the lines of a stack, where another open pane has 2."""

Name = Literal["overview", "curves", "data", "text"]
NAMES: tuple[Name, ...] = ("overview", "curves", "data", "text")
CONFIG, LOSS, BATCH, GENERATION, EVENTS, DOCTOR, SYSTEM = range(1, 8)


@dataclass(frozen=True)
class Leaf:
    """One pane. cells: its fixed width in a row, or its share of what is left if None."""

    number: int
    share: int = 1
    cells: int | None = None


@dataclass(frozen=True)
class Stack:
    """Panes below each other, of which `first` is open if no other one is active. min_lines: of an open pane."""

    numbers: tuple[int, ...]
    first: int | None
    share: int = 1
    min_lines: int = 8


@dataclass(frozen=True)
class Split:
    """Parts next to each other ("row") or below each other ("column")."""

    direction: Literal["row", "column"]
    parts: "tuple[Leaf | Stack | Split, ...]"
    share: int = 1


Part = Leaf | Stack | Split


def row(*parts: Part, share: int = 1) -> Split:
    return Split("row", parts, share)


def column(*parts: Part, share: int = 1) -> Split:
    return Split("column", parts, share)


def plan(name: Name, size: Size) -> Part:
    """Return the layout `name` for an area of `size` cells that has room for several panes."""
    config = Leaf(CONFIG, cells=CONFIG_WIDTH)
    notes = (EVENTS, DOCTOR, SYSTEM)
    if size.width < ROW_FROM.width:
        stack = Stack((CONFIG, BATCH, GENERATION, *notes), BATCH, share=6, min_lines=15)
        return column(Leaf(LOSS, 5), stack)
    match name:
        case "overview" if size.width < WIDE_FROM:
            below = row(Leaf(BATCH, 6), Stack((GENERATION, *notes), GENERATION, share=5), share=6)
            return row(config, column(Leaf(LOSS, 6), below))
        case "overview":
            below = row(Leaf(BATCH, 6), Leaf(GENERATION, 5), Stack(notes, EVENTS, share=5), share=6)
            return row(config, column(Leaf(LOSS, 5), below))
        case "curves":
            return row(config, column(Leaf(LOSS, 3), Stack((BATCH, GENERATION, *notes), None, share=2)))
        case "data":
            side_column = Stack((CONFIG, GENERATION, *notes), GENERATION, share=3)
            return row(Leaf(BATCH, 5), column(Leaf(LOSS, 2), side_column, share=4))
        case "text":
            side_column = Stack((CONFIG, BATCH, *notes), BATCH, share=3)
            return row(Leaf(GENERATION, 5), column(Leaf(LOSS, 2), side_column, share=4))


class PaneLayout:
    """Hold what decides where panes are: the size of their area, the layout, the active pane and zoom.

    with_content: the numbers of the panes that have something to show; others are title lines in a stack.
    """

    def __init__(self, numbers: Sequence[int], active: int, name: Name = "overview") -> None:
        self._numbers = numbers
        self.active = active
        self.name: Name = name
        self.zoomed = False
        self.size = Size(0, 0)
        """Of the terminal."""
        self.with_content: Collection[int] = numbers

    @property
    def is_single(self) -> bool:
        """Whether only the active pane is shown."""
        return self.zoomed or not fits(self.size, ONE_PANE_BELOW)

    def regions(self, area: Size) -> dict[int, Region]:
        """Return where each visible pane is in an area of this size; of one line if it is only its title."""
        whole = Region(0, 0, area.width, area.height)
        if self.is_single:
            return {self.active: whole}
        regions: dict[int, Region] = {}
        self._place(plan(self.name, self.size), whole, regions)
        return regions

    @property
    def visible(self) -> set[int]:
        """The numbers of the panes that are shown, some as a title line."""
        return set(self.regions(self.size))

    @property
    def classes(self) -> dict[str, bool]:
        """The screen's CSS classes, and whether each is set."""
        return {"-small": not fits(self.size, TOO_SMALL_BELOW), "-single": self.is_single}

    def next(self) -> None:
        """Go to the next layout."""
        self.name = NAMES[(NAMES.index(self.name) + 1) % len(NAMES)]
        self.zoomed = False

    def _place(self, part: Part, region: Region, regions: dict[int, Region]) -> None:
        match part:
            case Leaf(number):
                regions[number] = region
            case Stack():
                self._place_stack(part, region, regions)
            case Split(direction, parts):
                total = region.width if direction == "row" else region.height
                fixed = [self._cells(piece, direction, total) for piece in parts]
                start = 0
                for piece, cells in zip(parts, shared_out(total, fixed, [piece.share for piece in parts]), strict=True):
                    x, y, width, height = region
                    if direction == "row":
                        inner = Region(x + start, y, cells, height)
                    else:
                        inner = Region(x, y + start, width, cells)
                    self._place(piece, inner, regions)
                    start += cells

    def _cells(self, part: Part, direction: str, total: int) -> int | None:
        """Return the width or height of a part if it does not depend on the room that is left."""
        if isinstance(part, Stack) and direction == "column" and not self._open(part, total):
            return len(self._existing(part))
        return part.cells if isinstance(part, Leaf) else None

    def _open(self, stack: Stack, lines: int) -> list[int]:
        """Return which panes of a stack are more than a title line: the active one, then those with content."""
        first = self.active if self.active in stack.numbers else stack.first
        if first is None:
            return []
        numbers = self._existing(stack)
        by_priority = [first, *(number for number in numbers if number in self.with_content and number != first)]
        n_open = 1
        while n_open < len(by_priority) and lines - (len(numbers) - n_open - 1) >= stack.min_lines * (n_open + 1):
            n_open += 1
        return by_priority[:n_open]

    def _existing(self, stack: Stack) -> list[int]:
        return [number for number in stack.numbers if number in self._numbers]

    def _place_stack(self, stack: Stack, region: Region, regions: dict[int, Region]) -> None:
        opened = self._open(stack, region.height)
        numbers = self._existing(stack)
        fixed = [None if number in opened else 1 for number in numbers]
        shares = [ACTIVE_SHARE if number == self.active else 2 for number in numbers]
        y = region.y
        for number, lines in zip(numbers, shared_out(region.height, fixed, shares), strict=True):
            regions[number] = Region(region.x, y, region.width, lines)
            y += lines


def fits(size: Size, least: Size) -> bool:
    return size.width >= least.width and size.height >= least.height


def shared_out(total: int, fixed: Sequence[int | None], shares: Sequence[int]) -> list[int]:
    """Divide `total` cells: fixed parts get theirs, the others what is left in proportion to `shares`."""
    left = max(0, total - sum(cells or 0 for cells in fixed))
    all_shares = sum(share for share, cells in zip(shares, fixed, strict=True) if cells is None)
    sizes = []
    used_shares = 0
    used = 0
    for cells, share in zip(fixed, shares, strict=True):
        if cells is None:
            used_shares += share
            end = left * used_shares // all_shares
            sizes.append(end - used)
            used = end
        else:
            sizes.append(cells)
    return sizes
