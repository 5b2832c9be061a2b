"""The tokenizer of a script, and its table of tokens. `find_tokenizer` recognizes it."""

import functools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tui_lab.core.watch.model.unchanged_rng import unchanged_rng
from tui_lab.data.tokenizers import Gpt2Tokenizer, TableTokenizer, Tokenizer

MAX_IDS = 2**18
TIME_LIMIT = 3.0
"""Seconds for the table of tokens; the tokens after that are U+FFFD."""
UNKNOWN = "\ufffd".encode()
Clock = Callable[[], float]
Encode = Callable[[str], list[int]]
TokenBytes = Callable[[int], bytes]


@dataclass
class ScriptTokenizer:
    """A script's tokenizer.

    source: what it was recognized as. n_vocab: its ids are below it. has_assumed_size: whether n_vocab is only the
    number of logits.
    """

    source: str
    n_vocab: int
    encode: Encode
    _token_bytes: TokenBytes
    _clock: Clock = time.monotonic
    is_gpt2: bool = False
    has_assumed_size: bool = False

    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer for the run folder. The table of tokens is built once."""
        return self._tokenizer

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return Gpt2Tokenizer() if self.is_gpt2 else TableTokenizer(self._table())

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


def ids_of(encoded: Any) -> list[int]:
    """Return the ids of whatever an `encode` returned: a list, an array, a tensor [T] or [1, T], or an Encoding."""
    ids = getattr(encoded, "ids", encoded)
    if isinstance(ids, Mapping):
        ids = ids["input_ids"]
    if hasattr(ids, "tolist"):
        ids = ids.tolist()
    if len(ids) == 1 and isinstance(ids[0], list):
        ids = ids[0]
    return [int(i) for i in ids]
