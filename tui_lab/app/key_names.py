"""The names of keys: Textual's, those that the user writes into the keymap, and those that the app shows."""

from textual.keys import Keys, _character_to_key, format_key

MODIFIERS = ("ctrl", "alt", "shift")
KEY_NAMES = frozenset({key.value for key in Keys} | {_character_to_key(chr(code)) for code in range(33, 127)})


def normalized(key: str) -> str | None:
    """Return Textual's name of a key, such as `question_mark` for `?`; None if there is no such key."""
    *modifiers, base = key.split("+") if len(key) > 1 and not key.endswith("+") else [key]
    if not set(modifiers) <= set(MODIFIERS):
        return None
    if len(base) == 1:
        if modifiers == ["shift"] and base.isalpha():
            return base.upper()  # So does a terminal report it.
        base = _character_to_key(base) if base.isprintable() and base != " " else "space"
    elif base not in KEY_NAMES:
        return None
    return "+".join([*modifiers, base])


def shown_key(key: str) -> str:
    """Return a key as it is written into the file of the keymap."""
    *modifiers, base = key.split("+")
    return "+".join([*modifiers, base if base in ("space", "escape", *MODIFIERS) or len(base) == 1 else _short(base)])


def key_label(key: str) -> str:
    """Return a key as the app shows it, with a capital letter in the names of keys: L, ?, Space, Esc, Ctrl+S."""
    *modifiers, base = key.split("+")
    shown = shown_key(base)
    label = "Esc" if base == "escape" else shown if len(shown) == 1 else shown.capitalize()
    if not modifiers:
        return label
    return "+".join([*(modifier.capitalize() for modifier in modifiers), label.upper() if len(label) == 1 else label])


def _short(base: str) -> str:
    text = format_key(base)
    return text if len(text) == 1 and text.isascii() else base
