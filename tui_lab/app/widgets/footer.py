"""The keys of the moment, on a screen's last line."""

from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import Screen
from textual.widgets import Footer


class KeyLine(Footer):
    """A Footer that is made anew only when what it shows has changed.

    Textual 8.2.8 makes it anew whenever the focus moves, a screen comes up or a command is enabled: twelve times while
    a lab opens, ten of them to the same keys. Each time lays out the screen and looks up the style of every key.
    """

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)
        self._shown: list[tuple[Binding, bool, str]] | None = None

    def compose(self) -> ComposeResult:
        self._shown = self._to_show() if self._bindings_ready else None
        yield from super().compose()

    def bindings_changed(self, screen: Screen[object]) -> None:
        """Follow the keys even while the terminal has no focus, when Textual's footer stays as it is.

        A run goes on in an unfocused terminal, and the first key pressed there does not update Textual's footer.
        """
        self._bindings_ready = True
        if self.is_attached and screen is self.screen:
            self.call_after_refresh(self.recompose)

    async def recompose(self) -> None:
        if self.is_attached and self._to_show() != self._shown:
            await super().recompose()

    def _to_show(self) -> list[tuple[Binding, bool, str]]:
        active = self.screen.active_bindings.values()
        return [(each.binding, each.enabled, each.tooltip) for each in active if each.binding.show]
