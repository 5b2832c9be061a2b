"""Textual 8.2.8: the footer is built again whenever the focus moves, a screen opens or a binding is enabled.

While a lab opens that happens twelve times, ten of them with the same keys; each time the screen is laid out and the
style of every key is looked up. This footer is only built again when what it shows has changed.
"""

from textual.app import ComposeResult
from textual.widgets import Footer


class RecomposeOnlyOnChange(Footer):
    _shown: object = None

    def compose(self) -> ComposeResult:
        self._shown = self._to_show() if self._bindings_ready else None
        yield from super().compose()

    async def recompose(self) -> None:
        if self.is_attached and self._to_show() != self._shown:
            await super().recompose()

    def _to_show(self) -> object:
        active = self.screen.active_bindings.values()
        return [(each.binding, each.enabled, each.tooltip) for each in active if each.binding.show]
