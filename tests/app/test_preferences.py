"""What the app remembers of its look."""

import pytest

from tests.app.fake import lab
from tui_lab.app import preferences
from tui_lab.app.app import LabApp
from tui_lab.util.cache import cache_folder


async def test_layout_and_theme_are_remembered() -> None:
    async with lab(size=(200, 50)) as it:
        await it.press("Z", "t")
        theme = it.pilot.app.theme
    saved = preferences.load()
    assert saved.layout == "curves"
    assert saved.theme == theme
    assert LabApp().theme == theme


@pytest.mark.parametrize("text", ["", "[]", '{"theme": 1, "layout": "none"}', "\x00"])
def test_damaged_file_means_defaults(text: str) -> None:
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "app.json").write_text(text)
    assert preferences.load() == preferences.Preferences()
