"""The text of a lesson's stages: a section of text.md for each, with links to the glossary."""

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.core.lessons.lesson_file import LARGEST_FILE
from tui_lab.core.lessons.schema import COLUMNS
from tui_lab.util import files
from tui_lab.util.errors import Problem, nearest

TEXT = "text.md"
TEXT_LINES = 7
"""Lines of a stage's text, of COLUMNS characters."""
_LINK = re.compile(r"\[([^\]\n]+)\]\(([^)\n]*)\)")
_GLOSSARY = "glossary:"


@dataclass(frozen=True)
class Link:
    """A link to the glossary. text: as shown; term: the heading of the glossary's entry."""

    text: str
    term: str


def links(text: str) -> list[Link]:
    """Return the glossary links of a stage's text, in order."""
    return [
        Link(match[1], match[2].removeprefix(_GLOSSARY))
        for match in _LINK.finditer(text)
        if match[2].startswith(_GLOSSARY)
    ]


def without_links(text: str) -> str:
    """Return a stage's text as it is shown: links become their text."""
    return _LINK.sub(lambda match: match[1], text)


def read_texts(path: Path, ids: list[str]) -> tuple[dict[str, str], list[Problem]]:
    """Return the texts by stage id, each a section `## ID` of text.md, and the problems of the file."""
    try:
        content = files.read_text(path, LARGEST_FILE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        return {}, [Problem(code="unreadable", message=f"not readable: {reason}", key=str(path))]
    first, *sections = re.split(r"^## +(.*?) *$", content, flags=re.MULTILINE)
    texts = {name: _paragraphs(text) for name, text in zip(sections[::2], sections[1::2], strict=True)}
    problems = list[Problem]()
    for name in texts:
        if name not in ids:
            suggestion = nearest(name, ids)
            problems.append(
                Problem(code="unknown_name", message="no stage has this id", key=f"## {name}", suggestion=suggestion)
            )
    if len(texts) < len(sections) // 2:
        problems.append(Problem(code="exists", message="two sections have the same heading"))
    if any(line.strip() and not line.startswith("# ") for line in first.splitlines()):
        problems.append(Problem(code="invalid", message="there is text before the first ## heading, shown nowhere"))
    for stage_id in ids:
        problems += _text_problems(stage_id, texts.get(stage_id, ""))
    return texts, [replace(problem, key=f"{path}: {problem.key}".removesuffix(": ")) for problem in problems]


def _paragraphs(text: str) -> str:
    """`text` with each paragraph on one line, separated by an empty line; indented lines and lists stay as they are."""
    paragraphs = re.split(r"\n\s*\n", text.strip("\n"))
    return "\n\n".join(
        paragraph if re.search(r"^(?: {4}|[-*] )", paragraph, re.MULTILINE) else " ".join(paragraph.split())
        for paragraph in paragraphs
    ).strip()


def text_lines(text: str) -> list[str]:
    """Return a stage's text in lines of COLUMNS characters, without links.

    Empty lines between paragraphs are left out.
    """
    lines = list[str]()
    for line in without_links(text).splitlines():
        lines += textwrap.wrap(line, COLUMNS)
    return lines


def _text_problems(stage_id: str, text: str) -> Iterator[Problem]:
    key = f"## {stage_id}"
    if not text:
        yield Problem(code="missing", message="this stage has no text", key=key)
    n_lines = len(text_lines(text))
    if n_lines > TEXT_LINES:
        message = f"{n_lines} lines of {COLUMNS} characters; at most {TEXT_LINES} fit the strip"
        yield Problem(code="too_large", message=message, key=key)
    for match in _LINK.finditer(text):
        if not match[2].startswith(_GLOSSARY) or match[2] == _GLOSSARY:
            yield Problem(code="invalid", message="only glossary:TERM can be linked", key=key, value=match[0])
