"""The keys that can be pressed now, on a screen's last line."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from textual.app import ComposeResult
from textual.widgets import Input
from textual.widgets._footer import FooterKey

from tui_lab.app.key_names import key_label
from tui_lab.app.textual_fixes.footer_recomposed import RecomposeOnlyOnChange
from tui_lab.app.textual_fixes.footer_unfocused import FollowWithoutFocus


class FooterItem(NamedTuple):
    """key: Textual's name of the key to press. shown: the key as the user sees it. label: what it does."""

    key: str
    shown: str
    label: str

    @property
    def width(self) -> int:
        """Columns, with a space between the parts and one at the end."""
        return len(f"{self.shown} {self.label}".rstrip()) + 1


class KeyLine(RecomposeOnlyOnChange, FollowWithoutFocus):
    """Shows the bindings that are to be shown; in a field, without the keys that would be typed."""

    def __init__(self) -> None:
        super().__init__(show_command_palette=False, compact=True)

    def items(self) -> Sequence[FooterItem] | None:
        """Return what to show instead of the screen's bindings; None if those are right."""
        return list(self._items_in_field()) if isinstance(self.screen.focused, Input) else None

    def _items_in_field(self) -> Iterator[FooterItem]:
        actions = set()
        for key, active in self.screen.active_bindings.items():
            binding = active.binding
            if binding.show and active.enabled and not _is_typed(key) and binding.action not in actions:
                actions.add(binding.action)
                yield FooterItem(key, key_label(key), binding.description)

    def compose(self) -> ComposeResult:
        items = self.items() if self._bindings_ready else None
        if items is None:
            yield from super().compose()
            return
        self._shown = self._to_show()
        self.styles.grid_size_columns = max(1, len(items))
        for item in items:
            # With the class that it would get later, which would apply its styles again.
            key = FooterKey(item.key, item.shown, item.label, "", classes="-compact" if self.compact else "")
            yield key.data_bind(compact=KeyLine.compact)

    def _to_show(self) -> object:
        items = self.items()
        return super()._to_show() if items is None else items


def _is_typed(key: str) -> bool:
    """Return whether a field takes the key as text."""
    return key == "space" or len(key_label(key)) == 1


class ChosenKeyLine(KeyLine):
    """Shows the keys that `items` returns, in their order."""

    def __init__(self, items: Callable[[], Sequence[FooterItem]]) -> None:
        super().__init__()
        self._items = items

    def items(self) -> Sequence[FooterItem]:
        return list(self._items())
