"""Keys with what they do, as on the border of a pane: in the keys of the user's keymap, and clickable."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.dom import DOMNode
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget

from tui_lab.app.key_names import key_label, normalized
from tui_lab.app.keymap import Keymap, keymap_of

BETWEEN = " · "
NAMES = {"enter": "enter", "esc": "escape", "tab": "tab", "←": "left", "→": "right", "↑": "up", "↓": "down"}
"""Textual's names of keys that hints write in another way, by the lower-case text."""


@dataclass(frozen=True)
class Key:
    """shown: as the hint writes it. name: Textual's name of the key to press. gap: what stands after it."""

    shown: str
    name: str
    gap: str = " "


@dataclass(frozen=True)
class Hint:
    """A text and, if its keys do something here, the keys it begins with."""

    text: str
    keys: tuple[Key, ...] = ()

    def __str__(self) -> str:
        return "".join([*(key.shown + key.gap for key in self.keys), self.text])

    @property
    def content(self) -> Content:
        if not self.keys:
            return Content(self.text)
        if len(self.keys) == 1:
            return Content.styled(str(self), _click(self.keys[0]))
        keys = [Content.assemble(Content.styled(key.shown, _click(key)), key.gap) for key in self.keys]
        return Content.assemble(*keys, Content.styled(self.text, _click(self.keys[0])))


def _click(key: Key) -> Style:
    return Style.from_meta({"@click": f"app.simulate_key({key.name!r})"})


def parse(text: str, key_here: Callable[[str], str | None]) -> Hint:
    """Return the hint of a text that begins with keys, such as `n N example`.

    key_here: returns the key to press now for a default key by Textual's name, or None if it does nothing here.
    """
    words = text.split(" ")
    keys: list[Key] = []
    while len(words) > 1 and (found := _keys_of(words[0], key_here)):
        keys += found
        words = words[1:]
    return Hint(" ".join(words), tuple(keys))


def _keys_of(word: str, key_here: Callable[[str], str | None]) -> list[Key]:
    """Return the keys that a word names: one, or several characters such as ←→; empty if it is not about keys."""
    names = [word] if len(word) == 1 or word.isascii() else list(word)
    keys: list[Key] = []
    for name in names:
        default = NAMES.get(name.lower()) or normalized(name if len(name) == 1 else name.lower())
        pressed = None if default is None else key_here(default)
        if pressed is None or default is None:
            return []
        shown = name if pressed == default else key_label(pressed)
        glued = len(names) > 1 and len(keys) < len(names) - 1 and len(shown) == 1
        keys.append(Key(shown, pressed, "" if glued else " "))
    return keys


def keys_in_force(focused: Widget | None, keymap: Keymap) -> Callable[[str], str | None]:
    """Return what `parse` needs, for the widget that has the focus."""
    chain: Sequence[DOMNode] = [] if focused is None else focused.ancestors_with_self

    def key_here(default: str) -> str | None:
        for node in chain:
            for binding in node._bindings.key_to_bindings.get(default, []):
                chosen = keymap.chosen.get(binding.id or "", ())
                return chosen[0] if chosen and default not in chosen else default
        return None

    return key_here


def hints_of(texts: Iterable[str], focused: Widget | None) -> list[Hint]:
    """Return the hints of texts for the widget that has the focus, without those whose first key does not get there."""
    key_here = keys_in_force(focused, Keymap() if focused is None else keymap_of(focused.app))
    hints = [parse(text, key_here) for text in texts]
    taken = set() if focused is None else taken_keys(focused.screen)
    return [hint for hint in hints if not hint.keys or hint.keys[0].name not in taken]


def taken_keys(screen: Screen[object]) -> set[str]:
    """Return the keys that the screen takes before the widget that has the focus."""
    bindings = screen._bindings.key_to_bindings.items()
    return {
        key for key, here in bindings if any(each.priority and screen.check_action(each.action, ()) for each in here)
    }


def fitting_hints(hints: Iterable[Hint], width: int) -> Content:
    """Return as many hints as fit into a line."""
    shown: list[Hint] = []
    for hint in hints:
        if sum(len(str(each)) + len(BETWEEN) for each in shown) + len(str(hint)) > width:
            break
        shown.append(hint)
    return Content(BETWEEN).join(hint.content for hint in shown)
