"""Update the text of a Static widget."""

from rich.text import Text
from textual.widgets import Static


def update_text(widget: Static, text: Text | str, *, layout: bool = False) -> None:
    """Update the widget if its text has changed. layout: whether its height may have changed."""
    if widget.content != text:
        widget.update(text, layout=layout)
