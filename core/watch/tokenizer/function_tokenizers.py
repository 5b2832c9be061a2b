"""Tokenizers made of a script's own functions `encode` and `decode`."""

from collections.abc import Callable, Mapping
from typing import Any

from tui_lab.core.watch.model.unchanged_rng import unchanged_rng
from tui_lab.core.watch.tokenizer.script_tokenizer import UNKNOWN, Clock, ScriptTokenizer, ids_of

_SAMPLE = 64
"""Ids that are decoded to find out whether a function `decode` is one of tokens."""


def from_methods(obj: Any, n_vocab: int | None, clock: Clock) -> ScriptTokenizer | None:
    """Return a tokenizer of an object with the methods encode and decode. n_vocab: if the object has no size."""
    encode = getattr(obj, "encode", None)
    decode = getattr(obj, "decode", None)
    if isinstance(obj, str | bytes) or not callable(encode) or not callable(decode):
        return None
    own_size = _own_size(obj)
    tokenizer = from_functions(encode, decode, own_size or n_vocab, type(obj).__name__, clock)
    if tokenizer is not None and own_size is not None:
        tokenizer.has_assumed_size = False
    return tokenizer


def _own_size(obj: Any) -> int | None:
    for name in ("n_vocab", "vocab_size", "get_vocab_size", "n_words", "__len__"):
        value = getattr(obj, name, None)
        value = value() if callable(value) else value
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def named_size(variables: Mapping[str, Any]) -> int | None:
    """Return the size of the vocabulary that a variable with a usual name states."""
    sizes = [variables.get(name) for name in ("vocab_size", "n_vocab", "num_vocab", "VOCAB_SIZE")]
    return next((size for size in sizes if type(size) is int and size > 0), None)


def from_functions(
    encode: Callable[..., Any], decode: Callable[..., Any], n_vocab: int | None, source: str, clock: Clock
) -> ScriptTokenizer | None:
    """Return a tokenizer of two functions; None unless encoding what was decoded gives ids again."""
    if n_vocab is None:
        return None

    def token_bytes(token: int) -> bytes:
        text = decode([token])
        if isinstance(text, list | tuple):
            text = "".join(text)
        if not isinstance(text, str | bytes):
            raise TypeError(f"decode returned {type(text).__name__}")
        return text if isinstance(text, bytes) else text.encode("utf-8", "replace")

    def checked_encode(text: str) -> list[int]:
        with unchanged_rng():
            return ids_of(encode(text))

    tokenizer = ScriptTokenizer(source, n_vocab, checked_encode, token_bytes, clock, has_assumed_size=True)
    n_decoded = min(n_vocab, _SAMPLE)
    with unchanged_rng():
        decoded = [token for i in range(n_decoded) if (token := tokenizer.bytes_or_unknown(i)) != UNKNOWN]
    ids = checked_encode(b"".join(decoded).decode("utf-8", "ignore"))
    return tokenizer if ids and all(0 <= i < n_vocab for i in ids) else None
