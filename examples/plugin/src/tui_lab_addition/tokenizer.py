"""One token for each different character."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_lab.plugins import DataError


class Letters:
    """The characters of a text, in the order of their code points. A character that is not among them is an error."""

    name = "letters"

    def __init__(self, letters: str) -> None:
        self._letters = "".join(sorted(set(letters)))
        self.n_vocab = len(self._letters)

    @classmethod
    def from_text(cls, pieces: Iterable[str]) -> "Letters":
        """Make the tokenizer of a text, which comes in pieces."""
        letters: set[str] = set()
        for piece in pieces:
            letters.update(piece)
        return cls("".join(letters))

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "Letters":
        """Make the tokenizer again that returned this state."""
        return cls(state["letters"])

    def encode(self, text: str) -> npt.NDArray[np.int64]:
        """Return an id for each character."""
        unknown = set(text) - set(self._letters)
        if unknown:
            message = "is not a character of this tokenizer"
            raise DataError.of("invalid", message, value=min(unknown), allowed=self._letters)
        return np.array([self._letters.index(character) for character in text], dtype=np.int64)

    def token_bytes(self, token: int) -> bytes:
        """Return the character of an id in UTF-8."""
        return self._letters[token].encode()

    def state(self) -> dict[str, Any]:
        """Return what `from_state` needs, as JSON values."""
        return {"name": self.name, "letters": self._letters}
