"""How the app shows a token."""

from collections.abc import Sequence

from tui_lab.data.tokenizers import NO_TEXT, IdTokenizer, TableTokenizer, Tokenizer, bytes_of, show


def token_text(tokenizer: Tokenizer, token: int) -> str:
    """Return a token as printable text, as `show` does; its number where the texts are not known."""
    return str(token) if isinstance(tokenizer, IdTokenizer) else show(tokenizer, token)


def token_name(tokenizer: Tokenizer, token: int) -> str:
    """Return a token with its id, and with its bytes where its text does not show them."""
    if isinstance(tokenizer, IdTokenizer):
        return f"id {token}"
    raw = bytes_of(tokenizer, token)
    text = show(tokenizer, token)
    has_bytes = raw not in (NO_TEXT, text.encode("ascii", "replace"))
    return f"{text} id {token}" + (f" bytes {raw.hex(' ')}" if has_bytes else "")


def class_tokenizer(n_classes: int, names: Sequence[str]) -> Tokenizer | None:
    """Return how classes are shown: by their names, or by numbers if they have none; None if there are no classes."""
    if not n_classes:
        return None
    return TableTokenizer([name.encode() for name in names]) if names else IdTokenizer(n_classes)
