"""A page that ends on a disabled option leaves an enabled one highlighted."""

import pytest
from textual.app import App, ComposeResult
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from tests.app.textual_fixes.plain import plain_and_fixed
from tui_lab.app.textual_fixes.choices import Choices


@pytest.mark.parametrize(("key", "highlighted"), [("pageup", 1), ("pagedown", 2)])
@pytest.mark.parametrize("list_type", plain_and_fixed(OptionList, Choices))
async def test_page_onto_a_disabled_option(list_type: type[OptionList], key: str, highlighted: int) -> None:
    class Listed(App[None]):
        def compose(self) -> ComposeResult:
            yield list_type(Option("title", disabled=True), "one", "two", Option("end", disabled=True))

    async with Listed().run_test() as pilot:
        options = pilot.app.query_one(OptionList)
        options.focus()
        await pilot.press("down", key)
        assert options.highlighted == highlighted
