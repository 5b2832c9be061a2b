"""The search of Home and of the events log."""

from textual.widgets import OptionList
from textual.widgets._footer import FooterKey

from tests.app.fake import lab
from tests.app.run_folders import folder
from tui_lab.app.app import LabApp
from tui_lab.app.widgets.search import SearchField
from tui_lab.core import events as ev


async def test_home_lists_what_contains_the_text() -> None:
    folder("zebra", 0.5)
    app = LabApp()
    async with app.run_test() as pilot:
        choices = app.screen.query_one(OptionList)
        n_all = choices.option_count

        def listed() -> list[str]:
            return [str(option.id) for option in choices.options if option.id]

        await pilot.press("slash", *"qzebra")
        assert listed() == []
        await pilot.pause()
        keys = [key.key_display for key in app.screen.query(FooterKey)]
        assert keys == ["Enter", "Tab", "Esc", "F1"]
        await pilot.press("home", "delete", "enter")
        assert [id.partition(":")[0] for id in listed()] == ["run"] and choices.has_focus
        assert choices.highlighted_option is not None and choices.highlighted_option.id == listed()[0]
        await pilot.press("escape")
        assert choices.option_count == n_all and not app.screen.query_one(SearchField).display


async def test_events_log_shows_and_copies_the_lines_that_match() -> None:
    async with lab() as it:
        await it.press("5", "slash", *"odd")
        await it.tell(ev.Warned(step=30, message="an odd thing"), ev.Warned(step=30, message="a plain thing"))
        log = " ".join(it.text("#log").split())
        assert "an odd thing" in log and "plain" not in log and it.source.sent == []
        await it.press("enter", "y")
        assert it.pilot.app.clipboard.endswith("an odd thing") and "\n" not in it.pilot.app.clipboard
        await it.press("escape")
        assert "a plain thing" in " ".join(it.text("#log").split()) and "parameters" in it.screen.events_pane.copied()
