"""Our docstrings name fields as `name: text` lines; on the site these become a list."""

import re

FIELD = re.compile(r"(\w+(?:, \w+)*): (.+)")


def with_lists(docstring: str) -> str:
    """Return the docstring with each paragraph of `name: text` lines as a Markdown list."""
    return "\n\n".join(_as_list(paragraph) for paragraph in docstring.split("\n\n"))


def _as_list(paragraph: str) -> str:
    lines = paragraph.splitlines()
    if not lines or FIELD.fullmatch(lines[0]) is None:
        return paragraph
    entries: list[str] = []
    for line in lines:
        field = FIELD.fullmatch(line)
        if field is None:
            entries[-1] += f" {line.strip()}"
        else:
            entries.append(f"- **{field[1]}**: {field[2]}")
    return "\n".join(entries)
