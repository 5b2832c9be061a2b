"""The names of keys: Textual's, and those that the user sees and writes into the keymap."""

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
    """Return a key as it is shown to the user and written into the file."""
    *modifiers, base = key.split("+")
    return "+".join([*modifiers, base if base in ("space", "escape", *MODIFIERS) or len(base) == 1 else _short(base)])


def _short(base: str) -> str:
    text = format_key(base)
    return text if len(text) == 1 and text.isascii() else base
