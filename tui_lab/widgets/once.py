"""Screens that go once."""

from typing import TYPE_CHECKING, Generic

from textual.await_complete import AwaitComplete
from textual.screen import Screen, ScreenResultType

if TYPE_CHECKING:
    _Screen = Screen
else:

    class _Screen(Generic[ScreenResultType]):
        """No widget: of several bases Textual takes styles and keys from the first one alone."""


class Once(_Screen[ScreenResultType]):
    """Beside a kind of screen: told to go a second time, it takes nothing with it.

    Textual's `dismiss` takes away whatever is on top: an answer and Escape, both typed before the first is done, took
    the screen below as well, or ended the app where something waited for the answer.
    """

    def dismiss(self, result: ScreenResultType | None = None) -> AwaitComplete:
        return super().dismiss(result) if self.app.screen is self else AwaitComplete()
