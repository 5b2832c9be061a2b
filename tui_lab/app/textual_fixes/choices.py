"""Textual 8.2.8: a page that ends past the last enabled option of a list removes the highlight.

Nothing is selected then, and Enter does nothing. The first or last option is highlighted instead.
"""

from tui_lab.app.textual_fixes.page_without_room import PageOnlyWithRoom
from tui_lab.app.widgets.movement import CURSOR


class Choices(PageOnlyWithRoom):
    """An OptionList whose Page Up and Page Down always leave an option highlighted."""

    BINDINGS = [*CURSOR]

    def action_page_up(self) -> None:
        super().action_page_up()
        if self.highlighted is None:
            self.action_first()

    def action_page_down(self) -> None:
        super().action_page_down()
        if self.highlighted is None:
            self.action_last()
