"""The keys that can be pressed now, on a screen's last line."""

from tui_lab.app.textual_fixes.footer_recomposed import RecomposeOnlyOnChange
from tui_lab.app.textual_fixes.footer_unfocused import FollowWithoutFocus


class KeyLine(RecomposeOnlyOnChange, FollowWithoutFocus):
    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)
