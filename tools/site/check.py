"""Check the built site: `python -m tools.site.check FOLDER`. It loads nothing from a network, and no link is broken.

mkdocs itself checks the links in Markdown; here are also those in HTML, in docstrings and in the theme.
"""

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {
    "script": "src", "img": "src", "source": "src", "iframe": "src", "link": "href", "video": "src", "object": "data",
}  # fmt: skip
"""What a browser loads on its own, by tag; a link to another site is loaded only when it is followed."""
NOT_LOADED = {"canonical", "prev", "next", "alternate"}
"""Relations of a <link> that name an address and load nothing."""
STYLE_ADDRESS = re.compile(r"url\(\s*['\"]?(?:https?:)?//|@import\s+['\"](?:https?:)?//")


@dataclass
class Page(HTMLParser):
    """What one page loads and links to, and the anchors that it has."""

    loaded: list[str] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if "id" in values:
            self.anchors.add(values["id"])
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        address = values.get(LOADING.get(tag, ""), "")
        if address and values.get("rel", "") not in NOT_LOADED:
            self.loaded.append(address)


def problems(site: Path) -> list[str]:
    """Return one line for each broken link and each file that would be loaded from a network."""
    pages = {path.resolve(): _parsed(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        return [f"{site}: no page"]
    lines = [line for path, page in pages.items() for line in _problems_of(path, page, pages)]
    for style in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        if STYLE_ADDRESS.search(style.read_text("utf-8")):
            lines.append(f"{style}: loads a file from a network")
    return lines


def _parsed(path: Path) -> Page:
    page = Page()
    page.feed(path.read_text("utf-8"))
    return page


def _problems_of(path: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    lines = [f"{path}: loads {address}" for address in page.loaded if _is_remote(address)]
    if path.name == "404.html":  # Its links are absolute: it is shown at any address.
        return lines
    for address in [*page.links, *page.loaded]:
        if not _is_remote(address) and not address.startswith("data:") and not _leads_somewhere(path, address, pages):
            lines.append(f"{path}: {address} leads nowhere")
    return lines


def _is_remote(address: str) -> bool:
    parts = urlsplit(address)
    return bool(parts.netloc) or parts.scheme in ("http", "https", "mailto")


def _leads_somewhere(path: Path, address: str, pages: dict[Path, Page]) -> bool:
    parts = urlsplit(address)
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target /= "index.html"
    if target not in pages:
        return target.exists()
    return not parts.fragment or unquote(parts.fragment) in pages[target].anchors | {"__skip", "__top"}


def main() -> None:
    site = Path(sys.argv[1])
    lines = problems(site)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    sys.stderr.write(f"{len(list(site.rglob('*.html')))} pages, {len(lines)} problems\n")
    sys.exit(1 if lines else 0)


if __name__ == "__main__":
    main()
