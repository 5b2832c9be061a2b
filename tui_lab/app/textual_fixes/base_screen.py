"""What every screen of the app derives from."""

from textual.screen import Screen, ScreenResultType

from tui_lab.app.textual_fixes.dismissed_twice import DismissOnce
from tui_lab.app.textual_fixes.mouse_on_removed_widget import IgnoreRemovedUnderMouse
from tui_lab.app.textual_fixes.mouse_outside_terminal import IgnoreMouseOutside
from tui_lab.app.textual_fixes.render_only_dirty import RenderOnlyDirty
from tui_lab.app.textual_fixes.stale_resize import IgnoreStaleResize
from tui_lab.app.textual_fixes.styled_when_mounted import StyledWhenMounted


class BaseScreen(
    DismissOnce[ScreenResultType],
    IgnoreMouseOutside[ScreenResultType],
    IgnoreRemovedUnderMouse[ScreenResultType],
    IgnoreStaleResize[ScreenResultType],
    RenderOnlyDirty[ScreenResultType],
    StyledWhenMounted[ScreenResultType],
):
    """The workarounds for Screen; use as a mixin before the kind of screen."""


class BlankScreen(BaseScreen[None], Screen[None]):
    """The empty screen under all others."""
