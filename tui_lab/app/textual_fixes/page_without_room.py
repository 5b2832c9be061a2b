"""Textual 8.2.8: Page Up and Page Down in a list without room end the app.

The lines of an OptionList are laid out only if it has room for one, but a page is measured in them: an error is raised.
A page in a list without room does nothing here. The same holds for the list of the command palette.
"""

from textual.widgets import OptionList


def has_room(options: OptionList) -> bool:
    return bool(options.scrollable_content_region)


class PageOnlyWithRoom(OptionList):
    def action_page_up(self) -> None:
        if has_room(self):
            super().action_page_up()  # type: ignore[no-untyped-call]

    def action_page_down(self) -> None:
        if has_room(self):
            super().action_page_down()  # type: ignore[no-untyped-call]
