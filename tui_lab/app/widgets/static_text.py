"""Update the text of a Static widget."""

from rich.text import Text
from textual.widgets import Static


def update_text(widget: Static, text: Text | str, *, layout: bool = False) -> None:
    """Update the widget if its text has changed. layout: whether its height may have changed."""
    if isinstance(text, Text) and isinstance(text.style, str) and text.style:
        # As a style of the whole text, Textual reads the name of a color as one of CSS, not as the theme's.
        text = text.copy()
        text.stylize_before(text.style)
        text.style = ""
    if widget.content != text:
        widget.update(text, layout=layout)
