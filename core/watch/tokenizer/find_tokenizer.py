"""Finds the tokenizer of a script among its variables.

Known libraries are recognized by the type's module and methods, without importing them. Code of the script (`encode`,
`decode`) is called only where nothing else is there, and whatever it raises means that there is no tokenizer.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from tui_lab.core.watch.tokenizer.function_tokenizers import from_functions, from_methods, named_size
from tui_lab.core.watch.tokenizer.library_tokenizers import GPT2_SIZES, of_library
from tui_lab.core.watch.tokenizer.script_tokenizer import Clock, ScriptTokenizer, ids_of
from tui_lab.core.watch.tokenizer.table_tokenizers import of_tables, of_unnamed_tables
from tui_lab.core.watch.variables.script_objects import objects_in
from tui_lab.data.tokenizers import Gpt2Tokenizer

MAX_PADDING = 1024
"""Logits beyond the tokenizer's vocabulary, at most, for a vocabulary that was padded to a round number."""


def find_tokenizer(
    namespaces: Sequence[Mapping[str, Any]], n_vocab: int | None, clock: Clock = time.monotonic
) -> ScriptTokenizer | None:
    """Return the tokenizer among the variables that fits n_vocab logits best, None if there is none. Never raises.

    The size that fits best is n_vocab itself, then one below it by a padding, then any smaller one. Where a script
    has none at all, logits of GPT-2's size mean GPT-2's tokenizer.
    """
    try:
        candidates = [each for namespace in namespaces for each in _candidates(dict(namespace), n_vocab, clock)]
        best = _best(candidates, n_vocab)
        return _gpt2() if best is None and not candidates and n_vocab in GPT2_SIZES else best
    except Exception:
        return None


def from_object(obj: Any, n_vocab: int | None = None, clock: Clock = time.monotonic) -> ScriptTokenizer | None:
    """Return the tokenizer that the user gave.

    Any that `find_tokenizer` recognizes, a table itos or stoi, a pair (encode, decode), or "gpt2". n_vocab: the number
    of logits, for functions that do not know their number of tokens. Never raises.
    """
    try:
        if isinstance(obj, tuple) and len(obj) == 2 and all(callable(part) for part in obj):
            return from_functions(obj[0], obj[1], n_vocab, "encode and decode", clock)
        if _is_tui_lab(obj):
            return ScriptTokenizer(obj.name, obj.n_vocab, lambda text: ids_of(obj.encode(text)), obj.token_bytes, clock)
        if isinstance(obj, str):
            return _gpt2() if obj == "gpt2" else None
        if isinstance(obj, dict | list | tuple):
            table = of_tables({"itos": obj}, clock) or of_tables({"stoi": obj}, clock)
            if table is not None:
                return table
        return of_library(obj, clock) or _best_inside(obj, n_vocab, clock) or from_methods(obj, n_vocab, clock)
    except Exception:
        return None


def _gpt2() -> ScriptTokenizer:
    gpt2 = Gpt2Tokenizer()
    return ScriptTokenizer("gpt2", gpt2.n_vocab, lambda text: ids_of(gpt2.encode(text)), gpt2.token_bytes, is_gpt2=True)


def _best(candidates: Iterable[ScriptTokenizer], n_vocab: int | None) -> ScriptTokenizer | None:
    """Return the candidate that fits best, the first of equals."""
    ranked = [(rank, each) for each in candidates if (rank := _rank(each, n_vocab)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _rank(candidate: ScriptTokenizer, n_vocab: int | None) -> int | None:
    """Return how well a tokenizer fits `n_vocab` logits, 0 is best; None if they cannot belong together."""
    size = candidate.n_vocab
    if candidate.has_assumed_size:
        return 2
    if n_vocab is None or size == n_vocab:
        return 0
    if size > n_vocab:
        # Tokens added to a tokenizer that the model does not have, as a padding token.
        return 4 if size - n_vocab <= 0.01 * n_vocab else None
    is_padded = n_vocab % 8 == 0 and n_vocab - size < min(MAX_PADDING, size)
    return 1 if is_padded else 3


def _candidates(variables: dict[str, Any], n_vocab: int | None, clock: Clock) -> Iterator[ScriptTokenizer]:
    """Yield the tokenizers in a namespace.

    First those of libraries, then named tables, functions of the script, and tables with other names.
    """
    objects = list(objects_in(variables))
    yield from library_tokenizers(objects, clock)
    yield from _recognized(of_tables, objects, clock)
    encode = variables.get("encode")
    decode = variables.get("decode")
    if callable(encode) and callable(decode):
        size = n_vocab if n_vocab is not None else named_size(variables)
        candidate = _or_none(from_functions, encode, decode, size, "encode and decode", clock)
        if candidate is not None:
            yield candidate
    for name, obj in variables.items():
        if "token" in str(name).lower() + type(obj).__name__.lower() and not isinstance(obj, type):
            candidate = _or_none(from_methods, obj, n_vocab, clock)
            if candidate is not None:
                yield candidate
    if n_vocab is not None:
        yield from _recognized(of_unnamed_tables, objects, n_vocab, clock)


def library_tokenizers(objects: Iterable[Any], clock: Clock = time.monotonic) -> Iterator[ScriptTokenizer]:
    """Yield those of the objects that are tokenizers of known libraries; never raises."""
    return _recognized(of_library, objects, clock)


def _recognized(
    recognize: Callable[..., ScriptTokenizer | None], objects: Iterable[Any], *arguments: Any
) -> Iterator[ScriptTokenizer]:
    for obj in objects:
        candidate = _or_none(recognize, obj, *arguments)
        if candidate is not None:
            yield candidate


def _or_none(recognize: Callable[..., ScriptTokenizer | None], *arguments: Any) -> ScriptTokenizer | None:
    try:
        return recognize(*arguments)
    except Exception:
        return None


def _best_inside(obj: Any, n_vocab: int | None, clock: Clock) -> ScriptTokenizer | None:
    """Return the tokenizer that `obj` is a table of, or keeps in its attributes."""
    recognized = [
        candidate
        for part in islice(objects_in({"": obj}), 1, None)
        for recognize in (of_library, of_tables)
        if (candidate := _or_none(recognize, part, clock)) is not None
    ]
    return _best(recognized, n_vocab) or next(iter(recognized), None)


def _is_tui_lab(obj: Any) -> bool:
    return type(obj).__module__.startswith("tui_lab.") and hasattr(obj, "token_bytes")
