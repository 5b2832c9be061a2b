"""The command palette with the workarounds for screens and lists."""

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.command import CommandList, CommandPalette

from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.textual_fixes.page_without_room import has_room


class Palette(BaseScreen[None], CommandPalette):
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "page('page_up')", "Previous page", show=False),
        Binding("pagedown", "page('page_down')", "Next page", show=False),
    ]

    def action_page(self, move: str) -> None:
        if has_room(self.query_one(CommandList)):
            self._action_command_list(move)
