"""The tokenizer of a script, recognized among its variables, and its table of tokens.

Known libraries are recognized by the type's module and methods, without importing them. Code of the script (`encode`,
`decode`) is called only where nothing else is there, and whatever it raises means that there is no tokenizer.
"""

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tui_lab.core.watch.unchanged_rng import unchanged_rng
from tui_lab.data.tokenizers import Gpt2Tokenizer, TableTokenizer, Tokenizer

MAX_IDS = 2**18
TIME_LIMIT = 3.0
"""Seconds for the table of tokens; the tokens after that are U+FFFD."""
MAX_PADDING = 1024
"""Logits beyond the tokenizer's vocabulary, at most, for a vocabulary that was padded to a round number."""
MAX_OBJECTS = 5000
MAX_DEPTH = 2
GPT2_SIZES = (50257, 50304)
"""Sizes of the logits of a model over GPT-2's vocabulary: as it is, and padded as in nanoGPT."""
UNKNOWN = "\ufffd".encode()

_ITOS = (
    "itos", "idx2char", "idx_to_char", "int_to_char", "ix_to_char", "id2char", "id_to_char", "i2c", "int2char",
    "idx2token", "id2token", "id_to_token", "ix_to_token", "idx2word", "idx_to_word", "id2word", "index_to_char",
)  # fmt: skip
_STOI = (
    "stoi", "char2idx", "char_to_idx", "char_to_int", "char_to_ix", "char2id", "char_to_id", "c2i", "char2int",
    "token2idx", "token2id", "token_to_id", "token_to_ix", "word2idx", "word_to_idx", "word2id", "char_to_index",
)  # fmt: skip
_SAMPLE = 64
"""Ids that are decoded to find out whether a function `decode` is one of tokens."""

Clock = Callable[[], float]
Encode = Callable[[str], list[int]]
TokenBytes = Callable[[int], bytes]


@dataclass
class ScriptTokenizer:
    """A script's tokenizer. source: what it was recognized as. n_vocab: its ids are below it."""

    source: str
    n_vocab: int
    encode: Encode
    _token_bytes: TokenBytes
    _clock: Clock = time.monotonic
    _is_gpt2: bool = False
    _has_assumed_size: bool = False

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer for the run folder. The table of tokens is built once."""
        return self._tokenizer

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return Gpt2Tokenizer() if self._is_gpt2 else TableTokenizer(self._table())

    def _table(self) -> list[bytes]:
        n_ids = min(self.n_vocab, MAX_IDS)
        tokens: list[bytes] = []
        end = self._clock() + TIME_LIMIT
        with unchanged_rng():
            while len(tokens) < n_ids and self._clock() < end:
                tokens.append(self.bytes_or_unknown(len(tokens)))
        return tokens + [UNKNOWN] * (n_ids - len(tokens))

    def bytes_or_unknown(self, token: int) -> bytes:
        """Return the bytes of a token, U+FFFD where the script's code fails."""
        try:
            return self._token_bytes(token)
        except Exception:
            return UNKNOWN


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
            return _from_functions(obj[0], obj[1], n_vocab, "encode and decode", clock)
        if _is_tui_lab(obj):
            return ScriptTokenizer(obj.name, obj.n_vocab, lambda text: _ids(obj.encode(text)), obj.token_bytes, clock)
        if isinstance(obj, str):
            return _gpt2() if obj == "gpt2" else None
        if isinstance(obj, dict | list | tuple):
            table = _of_maps({"itos": obj}, clock) or _of_maps({"stoi": obj}, clock)
            if table is not None:
                return table
        return _of_library(obj, clock) or _best_inside(obj, n_vocab, clock) or _from_methods(obj, n_vocab, clock)
    except Exception:
        return None


def _gpt2() -> ScriptTokenizer:
    gpt2 = Gpt2Tokenizer()
    return ScriptTokenizer("gpt2", gpt2.n_vocab, lambda text: _ids(gpt2.encode(text)), gpt2.token_bytes, _is_gpt2=True)


def _best(candidates: Iterable[ScriptTokenizer], n_vocab: int | None) -> ScriptTokenizer | None:
    """The candidate that fits best, the first of equals."""
    ranked = [(rank, each) for each in candidates if (rank := _rank(each, n_vocab)) is not None]
    return min(ranked, key=lambda pair: pair[0])[1] if ranked else None


def _rank(candidate: ScriptTokenizer, n_vocab: int | None) -> int | None:
    """How well a tokenizer fits `n_vocab` logits, 0 is best; None if they cannot belong together."""
    size = candidate.n_vocab
    if candidate._has_assumed_size:
        return 2
    if n_vocab is None or size == n_vocab:
        return 0
    if size > n_vocab:
        # Tokens added to a tokenizer that the model does not have, as a padding token.
        return 4 if size - n_vocab <= 0.01 * n_vocab else None
    is_padded = n_vocab % 8 == 0 and n_vocab - size < min(MAX_PADDING, size)
    return 1 if is_padded else 3


def _candidates(variables: dict[str, Any], n_vocab: int | None, clock: Clock) -> Iterator[ScriptTokenizer]:
    """The tokenizers in a namespace, those of libraries first and functions of the script last."""
    objects = list(_objects(variables))
    for recognize in (_of_library, _of_maps):
        for obj in objects:
            candidate = _or_none(recognize, obj, clock)
            if candidate is not None:
                yield candidate
    encode = variables.get("encode")
    decode = variables.get("decode")
    if callable(encode) and callable(decode):
        size = n_vocab if n_vocab is not None else _named_size(variables)
        candidate = _or_none(_from_functions, encode, decode, size, "encode and decode", clock)
        if candidate is not None:
            yield candidate
    for name, obj in variables.items():
        if "token" in str(name).lower() + type(obj).__name__.lower() and not isinstance(obj, type):
            candidate = _or_none(_from_methods, obj, n_vocab, clock)
            if candidate is not None:
                yield candidate


def _or_none(recognize: Callable[..., ScriptTokenizer | None], *arguments: Any) -> ScriptTokenizer | None:
    try:
        return recognize(*arguments)
    except Exception:
        return None


def _objects(variables: dict[str, Any]) -> Iterator[Any]:
    """The variables together as a dict, their values, and what these keep in their attributes, without properties."""
    visited: set[int] = set()
    level: list[Any] = [variables]
    for _ in range(MAX_DEPTH + 2):
        following: list[Any] = []
        for obj in level:
            if id(obj) in visited or len(visited) >= MAX_OBJECTS:
                continue
            visited.add(id(obj))
            yield obj
            parts = islice(_stored(obj).values(), MAX_OBJECTS)
            following += [part for part in parts if type(part) is dict or type(part).__module__ != "builtins"]
        level = following


def _stored(obj: Any) -> dict[Any, Any]:
    """The entries of a dict with names, or the attributes of an instance; empty for anything else."""
    kind = type(obj)
    if kind is dict:
        return obj if len(obj) <= MAX_OBJECTS and all(type(key) is str for key in obj) else {}
    if kind.__module__ == "builtins" or issubclass(kind, type):
        return {}
    try:
        return dict(object.__getattribute__(obj, "__dict__"))
    except (AttributeError, TypeError):
        return {}


def _best_inside(obj: Any, n_vocab: int | None, clock: Clock) -> ScriptTokenizer | None:
    """The tokenizer that `obj` is a table of, or keeps in its attributes."""
    recognized = [
        candidate
        for part in islice(_objects({"": obj}), 1, None)
        for recognize in (_of_library, _of_maps)
        if (candidate := _or_none(recognize, part, clock)) is not None
    ]
    return _best(recognized, n_vocab) or next(iter(recognized), None)


# Libraries


def _of_library(obj: Any, clock: Clock) -> ScriptTokenizer | None:
    """A tokenizer of tiktoken, transformers, tokenizers or sentencepiece."""
    kind = type(obj)
    libraries = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if "tiktoken" in libraries and hasattr(kind, "decode_single_token_bytes"):
        return _of_tiktoken(obj, clock)
    if "sentencepiece" in libraries and hasattr(kind, "IdToPiece"):
        n_vocab = int(obj.GetPieceSize())
        vocabulary = {obj.IdToPiece(i): i for i in range(min(n_vocab, MAX_IDS))}
        return ScriptTokenizer(
            "sentencepiece", n_vocab, lambda text: _ids(obj.EncodeAsIds(text)), _lookup(vocabulary), clock
        )
    if hasattr(kind, "get_vocab") and hasattr(kind, "encode") and hasattr(kind, "decode"):
        vocabulary = obj.get_vocab()
        if isinstance(vocabulary, dict) and vocabulary:
            return _of_vocabulary(obj, vocabulary, clock)
    return None


def _of_tiktoken(encoding: Any, clock: Clock) -> ScriptTokenizer:
    def encode(text: str) -> list[int]:
        return _ids(encoding.encode(text, allowed_special="all"))

    is_gpt2 = encoding.name in ("gpt2", "r50k_base", "gpt2-offline") and encoding.n_vocab == GPT2_SIZES[0]
    return ScriptTokenizer(
        f"tiktoken {encoding.name}", encoding.n_vocab, encode, encoding.decode_single_token_bytes, clock, is_gpt2
    )


def _of_vocabulary(obj: Any, vocabulary: dict[str, int], clock: Clock) -> ScriptTokenizer:
    """A tokenizer of Hugging Face, or one with the same methods: get_vocab returns text → id."""

    def encode(text: str) -> list[int]:
        try:
            return _ids(obj.encode(text, add_special_tokens=False))
        except TypeError:
            return _ids(obj.encode(text))

    n_vocab = max(vocabulary.values()) + 1
    return ScriptTokenizer(type(obj).__name__, n_vocab, encode, _lookup(vocabulary), clock)


def _lookup(vocabulary: Mapping[str, int]) -> TokenBytes:
    """A function from an id to its bytes; they are computed at the first call."""
    pieces: dict[int, bytes] = {}

    def token_bytes(token: int) -> bytes:
        if not pieces:
            pieces.update(_pieces(vocabulary))
        return pieces[token]

    return token_bytes


def _pieces(vocabulary: Mapping[str, int]) -> dict[int, bytes]:
    """Return id → bytes of a vocabulary in byte-level letters, with ▁ for spaces, or with ## or </w>."""
    n_byte_level = sum(piece.startswith("Ġ") for piece in vocabulary)
    n_sentence_piece = sum("▁" in piece for piece in vocabulary)
    is_word_piece = any(piece.startswith("##") for piece in vocabulary) and "[UNK]" in vocabulary
    if n_byte_level > n_sentence_piece:
        convert = _of_byte_level
    elif n_sentence_piece:
        convert = _of_sentence_piece
    else:
        convert = _of_word_piece if is_word_piece else _of_plain
    return {i: convert(piece) for piece, i in vocabulary.items()}


def _of_byte_level(piece: str) -> bytes:
    """A piece in GPT-2's letters, one a byte; a special token may have others."""
    byte_of = _byte_of_letter()
    try:
        return bytes(byte_of[letter] for letter in piece)
    except KeyError:
        return piece.encode("utf-8", "replace")


def _of_sentence_piece(piece: str) -> bytes:
    if len(piece) == 6 and piece.startswith("<0x") and piece.endswith(">"):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("▁", " ").encode("utf-8", "replace")


def _of_word_piece(piece: str) -> bytes:
    if piece.startswith("[") and piece.endswith("]"):
        return piece.encode("utf-8", "replace")
    return (piece[2:] if piece.startswith("##") else " " + piece).encode("utf-8", "replace")


def _of_plain(piece: str) -> bytes:
    piece = piece.removesuffix("</w>") + " " if piece.endswith("</w>") else piece
    return piece.encode("utf-8", "replace")


@functools.cache
def _byte_of_letter() -> dict[str, int]:
    """GPT-2's letters of bytes (Radford et al. 2019, bytes_to_unicode): printable ones, then those from U+0100."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


# Tables of the script


def _of_maps(owner: Any, clock: Clock) -> ScriptTokenizer | None:
    """itos or stoi among the entries or attributes of an object."""
    stored = _stored(owner)
    for name in _ITOS:
        if name in stored and (table := _texts(_pairs(stored[name]))):
            return _of_table(table, name, clock)
    for name in _STOI:
        mapping = stored.get(name)
        if isinstance(mapping, dict) and (table := _texts((i, text) for text, i in mapping.items())):
            return _of_table(table, name, clock)
    return None


def _pairs(itos: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(itos, dict):
        return itos.items()
    return enumerate(itos) if isinstance(itos, list | tuple | str) else ()


def _texts(pairs: Iterable[tuple[Any, Any]]) -> dict[int, str | bytes] | None:
    """Return id → text; None if they are not a table of tokens."""
    table: dict[int, str | bytes] = {}
    for i, text in pairs:
        if isinstance(i, bool) or not hasattr(i, "__index__") or not isinstance(text, str | bytes):
            return None
        if not 0 <= int(i) < MAX_IDS:
            return None
        table[int(i)] = text
    return table or None


def _of_table(table: dict[int, str | bytes], name: str, clock: Clock) -> ScriptTokenizer:
    id_of = {text: i for i, text in reversed(table.items())}
    texts = [text for text in table.values() if isinstance(text, str)]
    is_words = sum(len(text) > 1 for text in texts) > len(table) / 2 and not any(" " in text for text in texts)
    raw = {i: text if isinstance(text, bytes) else text.encode("utf-8", "replace") for i, text in table.items()}
    if is_words:
        raw = {i: b" " + token for i, token in raw.items()}
    n_vocab = max(raw) + 1
    longest_match = TableTokenizer([raw.get(i, b"") for i in range(n_vocab)])

    def encode(text: str) -> list[int]:
        if is_words:
            return [id_of[word] for word in text.split() if word in id_of]
        return [int(i) for i in longest_match.encode(text)]

    return ScriptTokenizer(name, n_vocab, encode, raw.__getitem__, clock)


# Functions of the script


def _from_methods(obj: Any, n_vocab: int | None, clock: Clock) -> ScriptTokenizer | None:
    encode = getattr(obj, "encode", None)
    decode = getattr(obj, "decode", None)
    if isinstance(obj, str | bytes) or not callable(encode) or not callable(decode):
        return None
    own_size = _own_size(obj)
    tokenizer = _from_functions(encode, decode, own_size or n_vocab, type(obj).__name__, clock)
    if tokenizer is not None and own_size is not None:
        tokenizer._has_assumed_size = False
    return tokenizer


def _own_size(obj: Any) -> int | None:
    for name in ("n_vocab", "vocab_size", "get_vocab_size", "n_words", "__len__"):
        value = getattr(obj, name, None)
        value = value() if callable(value) else value
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _named_size(variables: Mapping[str, Any]) -> int | None:
    sizes = [variables.get(name) for name in ("vocab_size", "n_vocab", "num_vocab", "VOCAB_SIZE")]
    return next((size for size in sizes if type(size) is int and size > 0), None)


def _from_functions(
    encode: Callable[..., Any], decode: Callable[..., Any], n_vocab: int | None, source: str, clock: Clock
) -> ScriptTokenizer | None:
    """A tokenizer of two functions; None unless encoding what was decoded gives ids again."""
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
            return _ids(encode(text))

    tokenizer = ScriptTokenizer(source, n_vocab, checked_encode, token_bytes, clock, _has_assumed_size=True)
    n_decoded = min(n_vocab, _SAMPLE)
    with unchanged_rng():
        decoded = [token for i in range(n_decoded) if (token := tokenizer.bytes_or_unknown(i)) != UNKNOWN]
    ids = checked_encode(b"".join(decoded).decode("utf-8", "ignore"))
    return tokenizer if ids and all(0 <= i < n_vocab for i in ids) else None


def _ids(encoded: Any) -> list[int]:
    """Return the ids of whatever an `encode` returned: a list, an array, a tensor [T] or [1, T], or an Encoding."""
    ids = getattr(encoded, "ids", encoded)
    if isinstance(ids, Mapping):
        ids = ids["input_ids"]
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if len(ids) == 1 and isinstance(ids[0], list):
        ids = ids[0]
    return [int(i) for i in ids]


def _is_tui_lab(obj: Any) -> bool:
    return type(obj).__module__.startswith("tui_lab.") and hasattr(obj, "token_bytes")
