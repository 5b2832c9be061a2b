"""Update the text of a Static widget."""

from rich.text import Text
from textual.widgets import Static


def update_text(widget: Static, text: Text | str, *, layout: bool = False) -> None:
    """Update the widget if its text has changed. layout: whether its height depends on the text.

    The screen is laid out only if that height changes: a layout renders every widget again, at twice the cost.
    """
    if isinstance(text, Text) and isinstance(text.style, str) and text.style:
        # As a style of the whole text, Textual reads the name of a color as one of CSS, not as the theme's.
        text = text.copy()
        text.stylize_before(text.style)
        text.style = ""
    if widget.content == text:
        return
    height = _height(widget) if layout else None
    widget.update(text, layout=False)
    if layout and (height is None or _height(widget) != height):
        widget.refresh(layout=True)


def _height(widget: Static) -> int | None:
    """Return the height that the text needs in lines, or None if the widget's width is not known or may change."""
    width = widget.content_size.width
    is_auto = widget.styles.width is not None and widget.styles.width.is_auto
    return None if is_auto or not width else widget.visual.get_height(widget.styles.get_rules(), width)
