"""Short texts side by side, on as many lines as they need."""

from collections.abc import Iterable

from rich.text import Text

GAP = "  "


def packed(items: Iterable[Text], width: int) -> Text:
    """Return the items in lines of at most `width` columns, none of them broken at the end of a line."""
    text = Text()
    column = 0
    for item in items:
        if column and column + len(GAP) + item.cell_len > width:
            text.append("\n")
            column = 0
        elif column:
            text.append(GAP)
            column += len(GAP)
        text.append_text(item)
        column += item.cell_len
    return text
