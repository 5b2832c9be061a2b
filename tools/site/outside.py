"""Files of the repository outside docs/: those that are pages of the site too, and links to the others."""

import posixpath
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
CHANGES = "changelog.md"
CHANGES_INTRODUCTION = "What is new in each version.\n"
LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)\s]+)\)")


def pages() -> dict[str, str]:
    """Return the Markdown of the pages by path inside docs."""
    title, _, rest = (ROOT / "CHANGELOG.md").read_text("utf-8").partition("\n")
    return {CHANGES: f"{title}\n\n{CHANGES_INTRODUCTION}{rest}"}


def without_links(markdown: str, page: str) -> str:
    """Replace each link of `page` that leaves docs/ by its text and the path in the repository.

    The site is read without the repository, so such a link would lead nowhere.
    """

    def shown(match: re.Match[str]) -> str:
        text, target = match[1], match[2]
        path = posixpath.normpath(posixpath.join("docs", posixpath.dirname(page), target))
        if path.startswith("docs/"):
            return match[0]
        return f"`{path}`" if text in (path, f"`{path}`") else f"{text} (`{path}`)"

    return LINK.sub(shown, markdown)
