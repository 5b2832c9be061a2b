"""HTML in one file: elements, tables, and a page that asks nothing of the network."""

import html
from collections.abc import Iterable, Sequence
from typing import Any, NewType

from tui_lab.report.style import STYLE
from tui_lab.util.escape import printable

Html = NewType("Html", str)
"""Markup; a plain string becomes it by `text` alone, so mypy sees what is not escaped."""

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""Content-Security-Policy: no script, and nothing from elsewhere."""


def text(value: Any) -> Html:
    """Text as it is read: markup escaped, control and invisible characters shown."""
    return Html(html.escape(printable(str(value)), quote=True))


def join(*parts: Html) -> Html:
    return Html("".join(parts))


def element(tag: str, *children: Html, **attributes: str) -> Html:
    """An element; class_ stands for class, and aria_label for aria-label."""
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{html.escape(value, quote=True)}"'
        for name, value in attributes.items()
        if value
    )
    return Html(f"<{tag}{written}>{''.join(children)}</{tag}>\n")


def section(title: str, *children: Html, intro: str = "") -> Html:
    words = [element("p", text(intro), class_="intro")] if intro else []
    return element("section", element("h2", text(title)), *words, *children)


def table(head: Sequence[str], rows: Iterable[Sequence[Html]], numbers: Sequence[int] = (), **attributes: str) -> Html:
    """numbers: which columns are aligned to the right. It scrolls by itself where the page is narrow."""
    kind = {True: "n", False: ""}
    top = element("tr", *(element("th", text(t), scope="col", class_=kind[i in numbers]) for i, t in enumerate(head)))
    body = [element("tr", *(element("td", c, class_=kind[i in numbers]) for i, c in enumerate(row))) for row in rows]
    whole = element("table", element("thead", top), element("tbody", *body), **attributes)
    return element("div", whole, class_="scroll")


def tiles(figures: Sequence[tuple[str, str]]) -> Html:
    """A few figures, large."""
    return element(
        "dl",
        *(element("div", element("dt", text(name)), element("dd", text(value))) for name, value in figures),
        class_="tiles",
    )


def page(title: str, *sections: Html, style: str = "") -> str:
    """The whole file."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{text(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>\n"
        + "".join(sections)
        + "</main>\n</body>\n</html>\n"
    )
