"""Kinds of tokens, on a text whose kinds were marked by hand, for two tokenizers."""

import numpy as np
import pytest

from tui_lab.core.examples.token_kinds import KINDS, TokenKinds
from tui_lab.data.tokenizers import CharTokenizer, Gpt2Tokenizer, IdTokenizer, SeenVocabulary, Tokenizer

MARKS = {"_": "whitespace", ".": "punctuation", "1": "digits", "N": "names", "w": "other words"}
TEXT = "In 1066, Harold met 3 men from Kraków; I wept.\n\nThe king: “Come, Édith!” O Ζεύς"
MARKED = "ww_1111._NNNNNN_www_1_www_wwww_NNNNNN._w_wwww.__www_wwww._.wwww._NNNNN.._w_NNNN"


def marked(tokenizer: Tokenizer, ids: list[int]) -> list[str]:
    """Return the kind of each token by the mark of its first letter, or else of its first character but a space."""
    kinds = []
    position = 0
    encoded = TEXT.encode()
    for token in ids:
        end = position + len(tokenizer.token_bytes(token))
        first = len(encoded[:position].decode("utf-8", "ignore"))
        last = len(encoded[:end].decode("utf-8", "ignore"))
        if encoded[position:end].decode("utf-8", "ignore").encode() != encoded[position:end]:
            last = len((encoded[:end]).decode("utf-8", "replace"))
        marks = MARKED[first:last]
        order = "Nw1._"
        kinds.append(MARKS[min(marks, key=order.index)])
        position = end
    return kinds


@pytest.mark.parametrize("tokenizer", [CharTokenizer(TEXT), Gpt2Tokenizer()], ids=["char", "gpt2"])
def test_kinds_are_those_marked_by_hand(tokenizer: Tokenizer) -> None:
    assert len(TEXT) == len(MARKED)
    ids = tokenizer.encode(TEXT).tolist()
    kinds = [KINDS[kind] for kind in TokenKinds(tokenizer).of(ids)]
    assert kinds == marked(tokenizer, ids)


def test_tokens_before_decide_whether_a_sentence_begins() -> None:
    tokenizer = CharTokenizer()
    kinds = TokenKinds(tokenizer)
    ids = tokenizer.encode("for Anna").tolist()
    assert set(kinds.of(ids, 4).tolist()) == {KINDS.index("names")}
    assert set(kinds.of(ids[4:]).tolist()) == {KINDS.index("other words")}


def test_halves_of_a_letter_are_that_letter() -> None:
    """A byte-level tokenizer may cut a letter: both bytes of é are part of the word."""
    tokenizer = CharTokenizer()
    ids = tokenizer.encode("café").tolist()
    assert len(ids) == 5
    assert set(TokenKinds(tokenizer).of(ids).tolist()) == {KINDS.index("other words")}


def test_bytes_that_are_no_text_have_a_kind() -> None:
    assert TokenKinds(CharTokenizer()).of([0xFF, 0x00, 0xC3]).tolist() == [KINDS.index("punctuation")] * 3
    assert not TokenKinds(IdTokenizer(5)).has_texts
    assert TokenKinds(CharTokenizer()).of([], 0).dtype == np.int64


def test_token_for_all_others_is_unknown() -> None:
    tokenizer = SeenVocabulary(CharTokenizer(), [ord("a"), ord(",")])
    kinds = TokenKinds(tokenizer).of(tokenizer.encode("a,b").tolist())
    assert [KINDS[kind] for kind in kinds] == ["other words", "punctuation", "unknown"]
