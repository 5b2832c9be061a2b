"""The prompt that a form starts with, by task."""

import contextlib
from typing import TYPE_CHECKING

from tui_lab.core.config.schema import DataConfig

# At runtime it would import numpy, which Home does not wait for.
if TYPE_CHECKING:
    from tui_lab.data.tokenizers import Tokenizer

TEXT_PROMPT = "SOCRATES: "
SCRIPT_PROMPTS = ("The ", "the ", " ", "a", "0")
"""For a script, the first of these that its tokenizer has."""
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def first_prompt(data: DataConfig) -> str:
    """Return a row of digits of the right length for task `reverse`, and the start of a dialogue for text."""
    if data.task != "reverse":
        return TEXT_PROMPT
    return "".join(DIGITS[(3 * i + 1) % data.n_digits] for i in range(data.length))


def script_prompt(tokenizer: "Tokenizer") -> str:
    """Return a prompt that the tokenizer of a script or plug-in can encode; 0 if its tokens' texts are not known."""
    from tui_lab.data.tokenizers import IdTokenizer, decode, show
    from tui_lab.util.errors import DataError

    if isinstance(tokenizer, IdTokenizer):
        return "0"
    for prompt in SCRIPT_PROMPTS:
        with contextlib.suppress(DataError):
            if decode(tokenizer, tokenizer.encode(prompt)) == prompt:
                return prompt
    if not tokenizer.n_vocab:
        return ""
    # A vocabulary of words: the space before a word only shows where it begins.
    return decode(tokenizer, [0]).strip() or show(tokenizer, 0)
