"""The tokenizers among a script's variables: how many ids they have, and which of these is only padding."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tui_lab.core.watch.tokenizer.find_tokenizer import library_tokenizers
from tui_lab.core.watch.variables.script_config import user_namespaces
from tui_lab.core.watch.variables.script_objects import objects_in

OTHER_ROLES = ("eos_token_id", "bos_token_id", "sep_token_id", "cls_token_id")
"""Of an id that a tokenizer of transformers may name as its padding, too. That of unknown tokens ends no row."""


@dataclass(frozen=True)
class Vocabulary:
    """n_vocab: the number of ids of a tokenizer. padding: the id that it has for padding alone, None if it has none.

    opening: the ids with which its chat template opens an answer; empty if it has no such template.
    """

    n_vocab: int
    padding: int | None = None
    opening: tuple[int, ...] = ()


def script_vocabularies() -> frozenset[Vocabulary]:
    """Return those of the tokenizers of a library that the running functions of the script refer to.

    Tables of texts are left out: those of labels look like those of tokens. Never raises.
    """
    found: set[Vocabulary] = set()
    with contextlib.suppress(Exception):  # Code of the user, such as a tokenizer with methods of its own.
        for namespace in user_namespaces(sys._getframe(1)):
            for obj in objects_in(dict(namespace)):
                found.update(_vocabularies(obj))
    return frozenset(found)


def _vocabularies(obj: Any) -> Iterator[Vocabulary]:
    for tokenizer in library_tokenizers([obj]):
        yield Vocabulary(tokenizer.n_vocab, _padding(obj), _opening(obj))


def _opening(tokenizer: Any) -> tuple[int, ...]:
    """Return the ids of what the chat template of a tokenizer of transformers adds after a user's turn."""
    if not getattr(tokenizer, "chat_template", None):
        return ()
    try:
        turn, turn_and_opening = (
            tokenizer.apply_chat_template(
                [{"role": "user", "content": "a"}], tokenize=False, add_generation_prompt=adds_opening
            )
            for adds_opening in (False, True)
        )
        if not turn_and_opening.startswith(turn):
            return ()
        return tuple(tokenizer.encode(turn_and_opening[len(turn) :], add_special_tokens=False))
    except Exception:  # A template may refuse such a conversation.
        return ()


def _padding(tokenizer: Any) -> int | None:
    padding = getattr(tokenizer, "pad_token_id", None)
    others = [getattr(tokenizer, role, None) for role in OTHER_ROLES]
    return padding if isinstance(padding, int) and padding not in others else None
