"""Pages of help as blocks: parsed from a small part of Markdown, searched, and drawn with a key in one line."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

SPANS = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")
CODE, BOLD, MATCH = "bold cyan", "bold", "reverse"


@dataclass(frozen=True)
class Block:
    """A title, a paragraph, or a row of a table. cells: in Markdown; one unless it is a row."""

    kind: Literal["title", "text", "row"]
    cells: tuple[str, ...]

    @property
    def plain(self) -> str:
        return "  ".join(inline(cell).plain for cell in self.cells)


def parse(markdown: str) -> list[Block]:
    """Return the blocks of titles, paragraphs and tables, whose first row is the name of the columns."""
    blocks: list[Block] = []
    for is_table, lines in groupby(markdown.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines]
            blocks += [Block("row", row) for row in rows[2:]]
        else:
            blocks += _paragraphs(lines)
    return blocks


def _paragraphs(lines: Iterable[str]) -> list[Block]:
    blocks = []
    for paragraph in "\n".join(lines).split("\n\n"):
        text = " ".join(paragraph.split())
        if text.startswith("#"):
            blocks.append(Block("title", (text.lstrip("# "),)))
        elif text.startswith("**") and text.endswith("**") and text.count("**") == 2:
            blocks.append(Block("title", (text.strip("*"),)))
        elif text:
            blocks.append(Block("text", (text,)))
    return blocks


def inline(markdown: str) -> Text:
    """Return the text of a line with `code` and **bold** as styles."""
    text = Text()
    end = 0
    for match in SPANS.finditer(markdown):
        text.append(markdown[end : match.start()])
        text.append(match[1] or match[2], CODE if match[1] else BOLD)
        end = match.end()
    return text.append(markdown[end:])


def matching(blocks: Sequence[Block], search: str) -> list[Block]:
    """Return the rows and paragraphs that contain a text, each after its title; all blocks for an empty text.

    Of a title that contains it, such as a term of the glossary, everything is returned.
    """
    if not search:
        return list(blocks)
    shown: list[Block] = []
    title: Block | None = None
    is_in_title = False
    for block in blocks:
        if block.kind == "title":
            title = block
            is_in_title = search in block.plain.lower()
        elif search in block.plain.lower() or is_in_title:
            shown += [block] if title is None else [title, block]
            title = None
    return shown


def entry(blocks: Sequence[Block], term: str) -> list[Block]:
    """Return the entry of a term: the paragraph that begins with it, or its title with what follows until the next."""
    term = term.lower()
    for i, block in enumerate(blocks):
        name = block.plain.partition(":")[0].lower()
        if term != name and term not in re.split(r",\s*", name):
            continue
        if block.kind != "title":
            return [block]
        end = next((j for j in range(i + 1, len(blocks)) if blocks[j].kind == "title"), len(blocks))
        return list(blocks[i:end])
    return []


def draw(blocks: Sequence[Block], search: str = "") -> RenderableType:
    """Return the blocks as one renderable; keys are not broken, and matches of the search are marked."""

    def text(markdown: str) -> Text:
        line = inline(markdown)
        if search:
            line.highlight_regex(re.compile(re.escape(search), re.IGNORECASE), MATCH)
        return line

    drawn: list[RenderableType] = []
    for kind, group in groupby(blocks, key=lambda block: block.kind):
        if kind == "row":
            table = Table.grid(padding=(0, 2, 0, 0))
            table.add_column(no_wrap=True)
            table.add_column()
            for block in group:
                table.add_row(*(text(cell) for cell in block.cells))
            drawn.append(Padding(table, (0, 0, 1, 2)))
        elif kind == "title":
            drawn += [Text(block.cells[0], "bold underline") for block in group]
        else:
            drawn += [Padding(text(block.cells[0]), (0, 0, 1, 0)) for block in group]
    return Group(*drawn)
