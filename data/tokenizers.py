"""Tokenizers: text to token ids and back. `n_vocab` always comes from the tokenizer, never from a constant."""

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from tui_lab.util import plugin_registry
from tui_lab.util.errors import DataError
from tui_lab.util.escape import printable

Ids = npt.NDArray[np.int64]

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
N_BYTES = 256
GPT2_SHA256 = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
"""Of gpt2/gpt2.tiktoken, converted from OpenAI's vocab.bpe (sha256 1ce16647…) and encoder.json (19613966…)."""


class Tokenizer(Protocol):
    """The interface of a tokenizer. `decode(encode(text)) == text` for any text without lone surrogates."""

    @property
    def name(self) -> str: ...
    @property
    def n_vocab(self) -> int: ...
    def encode(self, text: str) -> Ids: ...
    def token_bytes(self, token: int) -> bytes: ...
    def state(self) -> dict[str, Any]:
        """Return the JSON values from which `from_state` rebuilds this tokenizer."""
        ...


NO_TEXT = "\ufffd".encode()
"""The bytes of a token that has no text, such as the start of a row that a script numbers 0 itself."""


def decode(tokenizer: Tokenizer, ids: Iterable[int]) -> str:
    """Return the text of `ids`; bytes that are not UTF-8 become U+FFFD."""
    return b"".join(bytes_of(tokenizer, int(i)) for i in ids).decode("utf-8", errors="replace")


def bytes_of(tokenizer: Tokenizer, token: int) -> bytes:
    """Return a token's bytes. An id beyond `n_vocab`, which a model with more logits can produce, is U+FFFD."""
    return tokenizer.token_bytes(token) if token < tokenizer.n_vocab else NO_TEXT


def show(tokenizer: Tokenizer, token: int) -> str:
    """Return one token as printable text: a space is ␣, a newline ↵, incomplete UTF-8 and controls are escaped.

    A token that a script's table does not have is its id, <0>.
    """
    raw = bytes_of(tokenizer, token)
    if raw == NO_TEXT and isinstance(tokenizer, TableTokenizer):
        return f"<{token}>"
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(chr(b) if 32 < b < 127 else f"\\x{b:02x}" for b in raw)
    return printable(text).replace(" ", "␣").replace("\n", "↵")


class DigitsTokenizer:
    """One token per digit: `n_digits` symbols from 0-9 then a-z. Spaces are ignored, other characters are errors."""

    name = "digits"

    def __init__(self, n_digits: int = 10) -> None:
        if not 2 <= n_digits <= len(DIGITS):
            raise DataError.of(
                "invalid", "out of range", key="data.n_digits", value=n_digits, allowed=f"2 to {len(DIGITS)}"
            )
        self.n_vocab = n_digits

    def encode(self, text: str) -> Ids:
        """Return an id for each digit. Raises DataError for a character that is not one of the digits."""
        allowed = DIGITS[: self.n_vocab]
        text = text.replace(" ", "")  # Rows are printed with spaces.
        invalid = [c for c in text if c not in allowed]
        if invalid:
            raise DataError.of("invalid", "not a digit of this task", value=invalid[0], allowed=allowed)
        return np.array([allowed.index(c) for c in text], dtype=np.int64)

    def token_bytes(self, token: int) -> bytes:
        return DIGITS[token].encode()

    def state(self) -> dict[str, Any]:
        return {"name": self.name, "n_digits": self.n_vocab}


class CharTokenizer:
    """One token per character of `alphabet`; any other character becomes its UTF-8 bytes.

    Ids below 256 are single bytes, ASCII characters included; the non-ASCII characters of the alphabet follow.
    """

    name = "char"

    def __init__(self, alphabet: str = "") -> None:
        self._letters = "".join(sorted({c for c in alphabet if ord(c) > 127}))
        self._id_of = {c: N_BYTES + i for i, c in enumerate(self._letters)}
        self.n_vocab = N_BYTES + len(self._letters)

    def encode(self, text: str) -> Ids:
        """Return ids of shape [n]; n is len(text) unless a character outside the alphabet takes several bytes."""
        if text.isascii():
            return np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64)
        # A lone surrogate has no UTF-8 bytes; like the gpt2 tokenizer, replace it by U+FFFD.
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        ids: list[int] = []
        for c in text:
            token = self._id_of.get(c)
            ids.extend([token] if token is not None else c.encode("utf-8"))
        return np.array(ids, dtype=np.int64)

    def token_bytes(self, token: int) -> bytes:
        return bytes([token]) if token < N_BYTES else self._letters[token - N_BYTES].encode("utf-8")

    def state(self) -> dict[str, Any]:
        return {"name": self.name, "alphabet": self._letters}


class Gpt2Tokenizer:
    """GPT-2's byte-pair encoding, computed by tiktoken from the merges in gpt2/gpt2.tiktoken: no network access."""

    name = "gpt2"

    def __init__(self) -> None:
        self._encoding = gpt2_encoding()
        self.n_vocab = int(self._encoding.n_vocab)

    def encode(self, text: str) -> Ids:
        """Return ids of shape [n]. The name of a special token in `text` is encoded as ordinary text."""
        return self.encode_compact(text).astype(np.int64)

    def encode_compact(self, text: str) -> npt.NDArray[np.uint32]:
        """Return the ids of `encode` as uint32, without building a Python list and without holding the GIL."""
        try:
            ids: npt.NDArray[np.uint32] = self._encoding.encode_to_numpy(text, disallowed_special=())
        except UnicodeEncodeError:
            ids = np.asarray(self._encoding.encode_ordinary(text), dtype=np.uint32)  # Replaces lone surrogates.
        return ids

    def token_bytes(self, token: int) -> bytes:
        return bytes(self._encoding.decode_single_token_bytes(token))

    def state(self) -> dict[str, Any]:
        return {"name": self.name}


@functools.cache
def gpt2_encoding() -> Any:
    """Return tiktoken's Encoding for GPT-2. Raises DataError when the file of merges is damaged."""
    import tiktoken

    ranks = _gpt2_ranks()
    return tiktoken.Encoding(
        name="gpt2-offline",
        # The pattern of Radford et al. 2019, in the form that tiktoken ships for GPT-2.
        pat_str=r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s""",
        mergeable_ranks=ranks,
        special_tokens={"<|endoftext|>": len(ranks)},
    )


def _gpt2_ranks() -> dict[bytes, int]:
    """Return the bytes of each mergeable token and its rank, which is its id.

    Each line of the file is a token in base64, a space and its rank. `tiktoken.load` reads the same format, but
    it first copies the file to a cache under /tmp, and fails where another user's copy cannot be read.
    """
    content = (importlib.resources.files("tui_lab.data") / "gpt2" / "gpt2.tiktoken").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != GPT2_SHA256:
        raise DataError.of(
            "damaged", f"sha256 is {digest}, not {GPT2_SHA256}; reinstall tui-lab", key="gpt2/gpt2.tiktoken"
        )
    lines = (line.split() for line in content.splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


class SeenVocabulary:
    """A tokenizer reduced to the tokens in `kept`: their ids become 0 … n-1, and id n stands for any other token."""

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
        """Convert ids of the base tokenizer to ids of this one; the shape stays the same."""
        compacted: Ids = self._compact[ids]
        return compacted

    def encode(self, text: str) -> Ids:
        return self.compact(self._base.encode(text))

    def token_bytes(self, token: int) -> bytes:
        if token == self.unknown:
            return NO_TEXT
        return self._base.token_bytes(int(self._kept[token]))

    def state(self) -> dict[str, Any]:
        return {"name": "seen", "base": self._base.state(), "kept": self._kept.tolist()}


class TableTokenizer:
    """The tokens of a script's own tokenizer: id → bytes. It decodes; only the script can encode as it does.

    `encode` takes the longest token at each place, which is right for characters and close for byte pairs.
    """

    name = "table"

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self._tokens = list(tokens)
        self.n_vocab = len(self._tokens)
        self._ids = {token: i for i, token in reversed(list(enumerate(self._tokens))) if token}
        self._longest = max((len(token) for token in self._ids), default=0)

    def encode(self, text: str) -> Ids:
        """Return ids of shape [n]; bytes that no token begins with are left out."""
        raw = text.encode("utf-8", "replace")
        ids = []
        start = 0
        while start < len(raw):
            for length in range(min(self._longest, len(raw) - start), 0, -1):
                if (token := self._ids.get(raw[start : start + length])) is not None:
                    ids.append(token)
                    start += length
                    break
            else:
                start += 1
        return np.array(ids, dtype=np.int64)

    def token_bytes(self, token: int) -> bytes:
        return self._tokens[token]

    def state(self) -> dict[str, Any]:
        return {"name": self.name, "tokens": [base64.b64encode(token).decode("ascii") for token in self._tokens]}


class IdTokenizer:
    """Ids as numbers, where the tokens' texts are not known. Text is numbers separated by spaces."""

    name = "ids"

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab

    def encode(self, text: str) -> Ids:
        """Return ids of shape [n]. Raises DataError for a word that is not an id."""
        try:
            ids = np.array([int(part) for part in text.split()], dtype=np.int64)
        except (ValueError, OverflowError):
            ids = np.array([-1])
        if ids.size and (ids.min() < 0 or ids.max() >= self.n_vocab):
            allowed = f"ids from 0 to {self.n_vocab - 1:,}, separated by spaces"
            raise DataError.of("invalid", "the tokens' texts are not known", value=text, allowed=allowed)
        return ids

    def token_bytes(self, token: int) -> bytes:
        return f"{token} ".encode()

    def state(self) -> dict[str, Any]:
        return {"name": self.name, "n_vocab": self.n_vocab}


def from_state(state: dict[str, Any]) -> Tokenizer:
    """Rebuild a tokenizer from its `state()`. Raises DataError when `state` is not valid."""
    try:
        match state["name"]:
            case "gpt2":
                return Gpt2Tokenizer()
            case "char":
                state["alphabet"].encode("utf-8")  # Raises for a lone surrogate.
                return CharTokenizer(state["alphabet"])
            case "digits" if type(state["n_digits"]) is int:
                return DigitsTokenizer(state["n_digits"])
            case "table" if isinstance(state["tokens"], list):
                return TableTokenizer([base64.b64decode(token, validate=True) for token in state["tokens"]])
            case "ids" if type(state["n_vocab"]) is int and state["n_vocab"] >= 0:
                return IdTokenizer(state["n_vocab"])
            case "seen" if state["base"]["name"] != "seen":
                base = from_state(state["base"])
                return SeenVocabulary(base, _checked(state["kept"], base.n_vocab))
            case other:
                return _of_plugin(other, state)
    except DataError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise DataError.of("damaged", "not the state of a tokenizer", value=state) from error


def _of_plugin(name: object, state: dict[str, Any]) -> Tokenizer:
    """Rebuild the tokenizer of a plug-in. Raises DataError where none has this name, PluginError."""
    from tui_lab.data import plugin_tokenizers

    if not isinstance(name, str) or plugin_registry.find("tokenizers", name) is None:
        allowed = ", ".join(["gpt2, char, digits, table, ids", *plugin_registry.names("tokenizers")])
        raise DataError.of(
            "unknown_name", "not a tokenizer that is installed", key="tokenizer", value=name, allowed=allowed
        )
    return plugin_tokenizers.from_state(name, state)


def _checked(kept: list[int], n_vocab: int) -> list[int]:
    """Return `kept` if it is a list of ids below `n_vocab`. Raises TypeError otherwise."""
    if not isinstance(kept, list) or not all(type(i) is int and 0 <= i < n_vocab for i in kept):
        raise TypeError
    return kept
