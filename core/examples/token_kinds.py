"""What kind of text each token is: whitespace, punctuation, digits, a name, another word, or an unknown token."""

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

from tui_lab.data.tokenizers import IdTokenizer, SeenVocabulary, Tokenizer, bytes_of

Kind = Literal["whitespace", "punctuation", "digits", "names", "other words", "unknown"]
KINDS: tuple[Kind, ...] = ("whitespace", "punctuation", "digits", "names", "other words", "unknown")
WORD = re.compile(r"[^\W\d_]+")
SENTENCE_ENDS = ".!?:…"
"""A capital after one of these begins a sentence. A colon does too: what a speaker says follows it."""

LOOK_BACK = 80
"""Characters before a word that are looked at, to see whether a sentence begins there."""


class TokenKinds:
    """Sorts the tokens of one tokenizer; the bytes of each token are looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._unknown = tokenizer.unknown if isinstance(tokenizer, SeenVocabulary) else None
        self._bytes: dict[int, bytes] = {}

    @property
    def has_texts(self) -> bool:
        """Whether the texts of the tokens are known; otherwise there are no kinds."""
        return not isinstance(self._tokenizer, IdTokenizer)

    def of(self, ids: Sequence[int], first: int = 0) -> npt.NDArray[np.int64]:
        """Return for each of ids[first:] its kind, an index into KINDS. The ids before are its context.

        A token that has letters is part of the word of its first letter, so all tokens of a name are names. A token of
        several kinds without letters, such as a comma and a space, is what comes first in: digits, punctuation,
        whitespace. The token that stands for all others in a vocabulary of seen tokens is unknown.
        """
        pieces = [self._bytes_of(token) for token in ids]
        text = b"".join(pieces).decode("utf-8", "surrogateescape")
        char_at = _chars_of_bytes(text)
        names = [match.span() for match in WORD.finditer(text) if _is_name(text, match)]
        in_name = np.zeros(len(text) + 1, np.bool_)
        for start, end in names:
            in_name[start:end] = True
        kinds = []
        position = sum(len(piece) for piece in pieces[:first])
        for token, piece in zip(ids[first:], pieces[first:], strict=True):
            end = position + len(piece)
            span = slice(char_at[position], char_at[end - 1] + 1) if piece else slice(0, 0)
            kinds.append(KINDS.index("unknown") if token == self._unknown else _kind(text, span, in_name))
            position = end
        return np.array(kinds, np.int64)

    def _bytes_of(self, token: int) -> bytes:
        if token not in self._bytes:
            self._bytes[token] = bytes_of(self._tokenizer, token)
        return self._bytes[token]


def _chars_of_bytes(text: str) -> Sequence[int]:
    """Return for each byte of the text the number of the character it belongs to."""
    if text.isascii():
        return range(len(text))
    lengths = [len(char.encode("utf-8", "surrogateescape")) for char in text]
    chars: list[int] = np.repeat(np.arange(len(text)), lengths).tolist()
    return chars


def _kind(text: str, span: slice, in_name: npt.NDArray[np.bool_]) -> int:
    chars = text[span]
    for at, char in enumerate(chars, span.start):
        if char.isalpha():
            return KINDS.index("names" if in_name[at] else "other words")
    if any(char.isnumeric() for char in chars):
        return KINDS.index("digits")
    return KINDS.index("whitespace" if chars.isspace() else "punctuation")


def _is_name(text: str, word: re.Match[str]) -> bool:
    """Return whether a word of at least two letters begins with a capital inside a sentence."""
    return word.end() - word.start() >= 2 and word[0][0].isupper() and not _begins_sentence(text, word.start())


def _begins_sentence(text: str, at: int) -> bool:
    """Return whether a sentence, a paragraph or the known text begins at `at`.

    Quotes, brackets and dashes are skipped.
    """
    before = text[max(0, at - LOOK_BACK) : at]
    last = before.rstrip(" \t\r\n\"'“”‘’«»()[]{}*_-–—")
    return not last or last[-1] in SENTENCE_ENDS or before[len(last) :].count("\n") >= 2
