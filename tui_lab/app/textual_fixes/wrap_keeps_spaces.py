"""Rich 15.0.0: `Text.wrap` drops the spaces at the ends of lines.

Text that grows while it is generated is wrapped piece by piece, so a space at the end of a line must not vanish: it may
be followed by more. Rich has no option for this; `divide_line`, which is private, finds the places to break.
"""

from rich._wrap import divide_line
from rich.text import Text


def wrapped(text: Text, width: int) -> list[Text]:
    """Return the lines of a text, at least one, broken between words where possible."""
    return [
        line
        for paragraph in text.split("\n", allow_blank=True)
        for line in paragraph.divide(divide_line(paragraph.plain, width))
    ]
