"""The keys h, j, k and l move in every list, as the arrows do."""

from textual.binding import Binding


def vertical(up: str, down: str) -> list[Binding]:
    """Return bindings of k and j to two actions."""
    return [Binding("k", up, "Up", show=False), Binding("j", down, "Down", show=False)]


def horizontal(left: str, right: str) -> list[Binding]:
    """Return bindings of h and l to two actions."""
    return [Binding("h", left, "Left", show=False), Binding("l", right, "Right", show=False)]


CURSOR = vertical("cursor_up", "cursor_down")
"""For Textual's lists and tables."""
SCROLL = vertical("scroll_up", "scroll_down")
"""For text that scrolls."""
