"""The base of mixins for Screen."""

from typing import TYPE_CHECKING, Generic

from textual.screen import Screen, ScreenResultType

if TYPE_CHECKING:
    ScreenMixin = Screen
else:

    class ScreenMixin(Generic[ScreenResultType]):
        """No widget: of several base classes Textual takes styles and bindings only from the first."""
