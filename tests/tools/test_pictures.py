"""The pictures and animations of the documentation: each is made by tools/pictures.py, and each is shown."""

import re

from tests.cli.documents import ROOT
from tools.pictures import DOCS, MAKERS
from tools.screenshots import WATCH_PICTURES

MADE = [file for maker in MAKERS.values() for file in maker.files]


def test_every_picture_of_the_documentation_is_made_from_the_app() -> None:
    pictures = [path.name for path in DOCS.rglob("*") if path.suffix in (".svg", ".gif", ".png", ".jpg", ".webp")]
    assert sorted(pictures) == sorted(MADE)


def test_every_picture_is_shown() -> None:
    pages = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]
    shown = {
        name for page in pages for name in re.findall(r"!\[[^\]]*\]\([^)]*?([\w-]+\.\w+)\)", page.read_text("utf-8"))
    }
    assert shown == set(MADE)


def test_watched_script_has_the_pictures_that_are_drawn() -> None:
    assert sorted(WATCH_PICTURES.values()) == sorted(MAKERS["watch"].files)


def test_no_picture_loads_a_font_from_a_network() -> None:
    for file in MADE:
        if file.endswith(".svg"):
            assert "@font-face" not in (DOCS / file).read_text("utf-8"), file
