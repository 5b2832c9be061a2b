"""What the app derives from."""

from textual.theme import ThemeProvider

from tui_lab.app.textual_fixes.base_screen import BlankScreen
from tui_lab.app.textual_fixes.continued_without_suspend import take_terminal_when_continued
from tui_lab.app.textual_fixes.input_before_mount import HoldInputUntilMounted
from tui_lab.app.textual_fixes.keys_in_order import KeysInOrder
from tui_lab.app.textual_fixes.palette import Palette
from tui_lab.app.textual_fixes.removed_nodes import IgnoreErrorsOfRemovedNodes
from tui_lab.app.textual_fixes.screenshot_toasts import PlainScreenshotToasts
from tui_lab.app.textual_fixes.simulated_keys import SimulateKeysFromApp
from tui_lab.app.textual_fixes.stylesheet_parsed_again import KeepParsedRules
from tui_lab.app.textual_fixes.tiny_terminal import LayOutAtLeastSmallest


class BaseApp(
    KeysInOrder,
    LayOutAtLeastSmallest,
    HoldInputUntilMounted,
    IgnoreErrorsOfRemovedNodes,
    PlainScreenshotToasts,
    SimulateKeysFromApp,
    KeepParsedRules,
):
    """The workarounds for App."""

    def get_default_screen(self) -> BlankScreen:
        return BlankScreen(id="_default")

    def action_command_palette(self) -> None:
        if not isinstance(self.screen, Palette):
            self.push_screen(self.new_palette())

    def new_palette(self) -> Palette:
        """Return the screen of the command palette."""
        return Palette()

    def search_themes(self) -> None:
        self.push_screen(Palette(providers=[ThemeProvider], placeholder="Search for themes…"))

    def on_mount(self) -> None:
        take_terminal_when_continued(self)
