"""A sentence as characters and as GPT-2's tokens, without torch: the stages that have `[stage.sentence]`."""

import functools
from dataclasses import dataclass

from tui_lab.data.tokenizers import Gpt2Tokenizer, show

LONGEST = 1000
"""Characters of a sentence, at most; the rest is left out."""


@dataclass(frozen=True)
class SplitSentence:
    """text: the sentence; tokens: text and id of each of GPT-2's tokens."""

    text: str
    tokens: tuple[tuple[str, int], ...]
    n_vocab: int

    @property
    def n_characters(self) -> int:
        return len(self.text)

    @property
    def n_different(self) -> int:
        """The size of a vocabulary of this sentence's characters."""
        return len(set(self.text))

    @property
    def characters_line(self) -> str:
        """How many characters, and how many different ones."""
        return f"{self.n_characters} characters, {self.n_different} different"

    @property
    def tokens_line(self) -> str:
        """How many tokens, with what they look like."""
        return f"{len(self.tokens)} of GPT-2's tokens: {self.pieces}"

    @property
    def pieces(self) -> str:
        """The tokens with a · between them; a space is ␣, and a piece of a character is shown as its bytes."""
        return "·".join(text for text, _ in self.tokens)


@functools.lru_cache(maxsize=4)
def split_sentence(text: str) -> SplitSentence:
    """Split a sentence into GPT-2's tokens. Raises DataError when the file of merges is damaged."""
    text = text[:LONGEST]
    tokenizer = Gpt2Tokenizer()
    ids = tokenizer.encode(text).tolist()
    return SplitSentence(text, tuple((show(tokenizer, token), token) for token in ids), tokenizer.n_vocab)
