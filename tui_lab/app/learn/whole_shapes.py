"""Keeps the shape of a tensor, such as [64, 7, 64], on one line.

Rich and Textual break lines at any whitespace, also at a no-break space, so the line ends before the shape.
"""

import re
import textwrap

from rich.text import Text

SHAPE = re.compile(r"\[[\w×·]+(?:, [\w×·]+)+\]")
NO_BREAK = "\u00a0"
"""textwrap does not break a line there."""


def with_whole_shapes(text: Text, width: int) -> Text:
    """Return a text with a line break before each shape that would not fit on its line of `width` columns."""
    return Text("\n").join(part for line in text.split("\n", allow_blank=True) for part in _parts(line, width))


def _parts(line: Text, width: int) -> list[Text]:
    """Return a line as it is, or as the lines that keep its shapes whole."""
    joined = SHAPE.sub(lambda match: match[0].replace(" ", NO_BREAK), line.plain)
    wrapped = _wrapped(joined, width)
    if [part.replace(NO_BREAK, " ") for part in wrapped] == _wrapped(line.plain, width):
        return [line]
    ends: list[int] = []
    for part in wrapped:
        ends.append(joined.index(part, ends[-1] if ends else 0) + len(part))
    parts = list(line.divide(ends[:-1]))
    # Each part but the first begins with the space at which the line is broken.
    return [parts[0], *(part[len(part.plain) - len(part.plain.lstrip()) :] for part in parts[1:])]


def _wrapped(line: str, width: int) -> list[str]:
    """Return the lines, each a part of `line` as it is."""
    return textwrap.wrap(line, width, expand_tabs=False, replace_whitespace=False, break_on_hyphens=False)
