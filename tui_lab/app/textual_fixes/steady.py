"""What every screen of the lab has beside its kind, against faults of Textual 8.2.8."""

from typing import TYPE_CHECKING, Generic

from textual import events
from textual.await_complete import AwaitComplete
from textual.geometry import Offset
from textual.screen import Screen, ScreenResultType
from textual.widget import Widget

from tui_lab.app.textual_fixes.late import beside, goes

if TYPE_CHECKING:
    _Screen = Screen
else:

    class _Screen(Generic[ScreenResultType]):
        """No widget: of several bases Textual takes styles and keys from the first one alone."""


class Steady(_Screen[ScreenResultType]):
    """A screen that goes once, and that keeps to the terminal's size.

    - `dismiss` takes away whatever is on top: an answer and Escape, both typed before the first is done, took the
      screen below as well, or ended the app where something waited for the answer.
    - A screen below another answers each new size by sending it to itself: of two that came shortly after each other
      each brought back the other, for ever, and no key was read any more.
    """

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()

    def get_widget_and_offset_at(self, x: int, y: int) -> tuple[Widget | None, Offset | None]:
        """What is at a place of the screen, but for what is there for the eye only: it is being taken away."""
        widget, offset = super().get_widget_and_offset_at(x, y)
        return (None, None) if widget is not None and goes(widget) else (widget, offset)

    async def on_event(self, event: events.Event) -> None:
        if not beside(event, self.region):
            await super().on_event(event)

    def on_resize(self, event: events.Resize) -> None:
        if event.size != self.app.size:
            event.prevent_default()


class Ground(Steady[None], Screen[None]):
    """The empty screen under all others."""
