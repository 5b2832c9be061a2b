"""Lists to choose from, and the command palette, that bear what Textual's (8.2.8) do not.

- A terminal too low: a list's lines are laid out only where it has room for one, but asked for at every move by a page.
- A page that ends on what cannot be chosen: nothing was chosen then.
"""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.command import CommandList, CommandPalette
from textual.widgets import OptionList

from tui_lab.app.textual_fixes.steady import Steady


def has_room(choices: OptionList) -> bool:
    return bool(choices.scrollable_content_region)


class Choices(OptionList):
    """OptionList in which a page of no lines is no move, and a page past the last choice is a move to it."""

    def action_page_up(self) -> None:
        if has_room(self):
            super().action_page_up()  # type: ignore[no-untyped-call]
            if self.highlighted is None:
                self.action_first()

    def action_page_down(self) -> None:
        if has_room(self):
            super().action_page_down()  # type: ignore[no-untyped-call]
            if self.highlighted is None:
                self.action_last()


class Palette(Steady[None], CommandPalette):
    """Textual's command palette; its list is no Choices."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "page('page_up')", "Previous page", show=False),
        Binding("pagedown", "page('page_down')", "Next page", show=False),
    ]

    def action_page(self, move: str) -> None:
        if has_room(self.query_one(CommandList)):
            self._action_command_list(move)
