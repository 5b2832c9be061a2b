"""Mouse events for tests."""

from textual.events import MouseEvent


def mouse_event(kind: type[MouseEvent], x: int, y: int) -> MouseEvent:
    """An event of the left button at column x and line y."""
    return kind(None, x, y, 0, 0, 1, shift=False, meta=False, ctrl=False, screen_x=x, screen_y=y)
