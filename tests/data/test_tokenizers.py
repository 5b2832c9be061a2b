import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.data import tokenizers
from tui_lab.data.tokenizers import (
    CharTokenizer,
    DigitsTokenizer,
    Gpt2Tokenizer,
    SeenVocabulary,
    Tokenizer,
    decode,
    show,
)
from tui_lab.util.errors import DataError

texts = st.text(max_size=200)


@given(texts)
@settings(deadline=None, max_examples=60)
def test_gpt2_round_trip(text: str) -> None:
    tokenizer = Gpt2Tokenizer()
    assert decode(tokenizer, tokenizer.encode(text)) == text


@given(texts, texts)
@settings(deadline=None, max_examples=60)
def test_char_round_trip_whatever_the_alphabet(text: str, alphabet: str) -> None:
    tokenizer = CharTokenizer(alphabet)
    ids = tokenizer.encode(text)
    assert decode(tokenizer, ids) == text
    assert all(0 <= i < tokenizer.n_vocab for i in ids)


@given(st.text("0123456789", max_size=50))
def test_digits_round_trip(text: str) -> None:
    tokenizer = DigitsTokenizer(10)
    assert decode(tokenizer, tokenizer.encode(text)) == text


def test_gpt2_gives_the_published_ids() -> None:
    tokenizer = Gpt2Tokenizer()
    assert tokenizer.encode("Hello world").tolist() == [15496, 995]
    assert tokenizer.token_bytes(tokenizer.n_vocab - 1) == b"<|endoftext|>"


def test_a_special_token_in_a_text_is_ordinary_text() -> None:
    tokenizer = Gpt2Tokenizer()
    assert tokenizer.n_vocab - 1 not in tokenizer.encode("<|endoftext|>")


def test_changed_bpe_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tokenizers.GPT2_SHA256, "vocab.bpe", "0" * 64)
    tokenizers.gpt2_encoding.cache_clear()
    with pytest.raises(DataError, match=r"vocab\.bpe has sha256"):
        Gpt2Tokenizer()


def test_half_a_character_and_controls_are_shown_escaped() -> None:
    assert show(CharTokenizer(), 0xE2) == "\\xe2"
    assert show(CharTokenizer(), 0x1B) == "\\x1b"
    assert show(CharTokenizer(), ord(" ")) == "␣"
    assert show(CharTokenizer(), ord("\n")) == "↵"


def test_a_foreign_character_is_no_digit() -> None:
    with pytest.raises(DataError, match="'7' is not a digit of this task: allowed are 0123"):
        DigitsTokenizer(4).encode("0127")


@given(st.text("abcdef", min_size=1), st.text("abcxyz"))
def test_seen_vocabulary_decodes_what_it_kept_and_marks_the_rest(seen: str, text: str) -> None:
    tokenizer = SeenVocabulary(CharTokenizer(), CharTokenizer().encode(seen))
    assert tokenizer.n_vocab == len(set(seen)) + 1
    assert decode(tokenizer, tokenizer.encode(text)) == "".join(c if c in seen else "\ufffd" for c in text)


@pytest.mark.parametrize(
    "tokenizer",
    [Gpt2Tokenizer(), CharTokenizer("éß"), DigitsTokenizer(7), SeenVocabulary(CharTokenizer("é"), [65, 66, 256])],
)
def test_a_tokenizer_comes_back_from_its_state(tokenizer: Tokenizer) -> None:
    again = tokenizers.from_state(json.loads(json.dumps(tokenizer.state())))
    assert again.n_vocab == tokenizer.n_vocab
    assert [again.token_bytes(i) for i in range(7)[:3]] == [tokenizer.token_bytes(i) for i in range(7)[:3]]


def test_a_damaged_state_is_an_error() -> None:
    with pytest.raises(DataError):
        tokenizers.from_state({"name": "char"})
