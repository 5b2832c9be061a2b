"""Tokenizers: text to ids and back, GPT-2's published ids, and states saved as JSON."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiktoken_ext.openai_public import r50k_pat_str

from tui_lab.data import tokenizers
from tui_lab.data.tokenizers import (
    CharTokenizer,
    DigitsTokenizer,
    Gpt2Tokenizer,
    IdTokenizer,
    SeenVocabulary,
    TableTokenizer,
    Tokenizer,
    decode,
    gpt2_encoding,
    show,
)
from tui_lab.util.errors import DataError

texts = st.text(max_size=200)


@given(texts)
@settings(max_examples=60)
def test_gpt2_round_trip(text: str) -> None:
    tokenizer = Gpt2Tokenizer()
    assert decode(tokenizer, tokenizer.encode(text)) == text


@given(texts, texts)
@settings(max_examples=60)
def test_char_round_trip_whatever_the_alphabet(text: str, alphabet: str) -> None:
    tokenizer = CharTokenizer(alphabet)
    ids = tokenizer.encode(text)
    assert decode(tokenizer, ids) == text
    assert all(0 <= i < tokenizer.n_vocab for i in ids)


@given(st.text("0123456789", max_size=50))
def test_digits_round_trip(text: str) -> None:
    tokenizer = DigitsTokenizer(10)
    assert decode(tokenizer, tokenizer.encode(text)) == text


GPT2_IDS: dict[str, list[int]] = {
    "": [],
    " ": [220],
    "Hello world": [15496, 995],
    "\n\n  \n": [628, 220, 220, 198],
    "don't I'LL we've": [9099, 470, 314, 6, 3069, 356, 1053],
    "  leading": [220, 3756],
    "tabs\t\tend \t": [8658, 82, 197, 197, 437, 220, 197],
    "1234567890 3.14": [10163, 2231, 30924, 3829, 513, 13, 1415],
    "éß naïve façade": [2634, 39683, 41492, 24685, 16175, 671],
    "日本語のテキスト": [33768, 98, 17312, 105, 45739, 252, 5641, 24336, 25084, 43302],
    "👩\u200d👧🇫🇷": [41840, 102, 447, 235, 41840, 100, 8582, 229, 104, 8582, 229, 115],
    "a\u0301": [64, 136, 223],
    "\u200b\ufeff": [9525, 171, 119, 123],
    "\r\nx\r": [201, 198, 87, 201],
    "ſʼtwas 'Tis": [129, 123, 134, 120, 4246, 292, 705, 51, 271],
    "!!!???...": [10185, 28358, 986],
    "def f(x):\n    return x\n": [4299, 277, 7, 87, 2599, 198, 220, 220, 220, 1441, 2124, 198],
    "\x00\x07\x1b": [188, 195, 215],
    "ΣΩΚΡΑΤΗΣ: ": [138, 96, 138, 102, 138, 248, 138, 94, 138, 239, 138, 97, 138, 245, 138, 96, 25, 220],
    "\xa0nbsp\u3000": [1849, 77, 24145, 5099, 222],
    "<|endoftext|>": [27, 91, 437, 1659, 5239, 91, 29],
    "\ud800": [4210],
}
"""Encoded by tiktoken from OpenAI's own vocab.bpe and encoder.json."""


@pytest.mark.parametrize("text", GPT2_IDS, ids=ascii)
def test_gpt2_gives_the_ids_of_the_original_files(text: str) -> None:
    assert Gpt2Tokenizer().encode(text).tolist() == GPT2_IDS[text]


def test_gpt2_splits_text_by_tiktokens_pattern() -> None:
    assert gpt2_encoding()._pat_str == r50k_pat_str


def test_gpt2_has_50257_tokens_and_the_last_ends_a_text() -> None:
    tokenizer = Gpt2Tokenizer()
    assert tokenizer.n_vocab == 50_257
    assert tokenizer.token_bytes(50_256) == b"<|endoftext|>"
    assert 50_256 not in tokenizer.encode("<|endoftext|>")


def test_gpt2_with_a_damaged_file_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizers, "GPT2_SHA256", "0" * 64)
    gpt2_encoding.cache_clear()
    with pytest.raises(DataError) as caught:
        Gpt2Tokenizer()
    assert (caught.value.code, caught.value.problems[0].key) == ("damaged", "gpt2/gpt2.tiktoken")


def test_show_escapes_incomplete_characters_and_controls() -> None:
    assert show(CharTokenizer(), 0xE2) == "\\xe2"
    assert show(CharTokenizer(), 0x1B) == "\\x1b"
    assert show(CharTokenizer(), ord(" ")) == "␣"
    assert show(CharTokenizer(), ord("\n")) == "↵"


def test_token_that_a_table_does_not_have_is_shown_as_its_id() -> None:
    assert [show(tokenizers.TableTokenizer([tokenizers.NO_TEXT, b"a"]), token) for token in (0, 1)] == ["<0>", "a"]


def test_digits_may_have_spaces_and_no_other_character() -> None:
    assert decode(DigitsTokenizer(4), DigitsTokenizer(4).encode("0 12  ")) == "012"
    with pytest.raises(DataError) as caught:
        DigitsTokenizer(4).encode("0127")
    assert (caught.value.problems[0].value, caught.value.problems[0].allowed) == ("7", "0123")


@given(st.text("abcdef", min_size=1), st.text("abcxyz"))
def test_seen_vocabulary_decodes_kept_tokens_and_marks_others(seen: str, text: str) -> None:
    tokenizer = SeenVocabulary(CharTokenizer(), CharTokenizer().encode(seen))
    assert tokenizer.n_vocab == len(set(seen)) + 1
    assert decode(tokenizer, tokenizer.encode(text)) == "".join(c if c in seen else "\ufffd" for c in text)


@given(st.text("abcé", max_size=50))
def test_table_of_characters_round_trips(text: str) -> None:
    tokenizer = TableTokenizer([character.encode() for character in "abcé"])
    assert decode(tokenizer, tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) == len(text)


def test_table_encodes_by_the_longest_token() -> None:
    tokenizer = TableTokenizer([b"a", b"b", b"ab", b"abb"])
    assert tokenizer.encode("abbaba").tolist() == [3, 2, 0]


def test_table_leaves_out_bytes_that_no_token_begins_with() -> None:
    tokenizer = TableTokenizer([b"a", b"", b"a"])
    assert tokenizer.encode("xaxax").tolist() == [0, 0], "equal tokens are encoded as the first of them"
    assert TableTokenizer([]).encode("x").tolist() == []


def test_text_of_ids_is_numbers() -> None:
    tokenizer = IdTokenizer(300)
    assert tokenizer.encode(" 0  299\n7").tolist() == [0, 299, 7]
    assert tokenizer.encode("").tolist() == []
    assert decode(tokenizer, [0, 299, 7]) == "0 299 7 "


@pytest.mark.parametrize("text", ["300", "-1", "seven", "1.5", "9" * 30])
def test_a_word_that_is_not_an_id_is_an_error(text: str) -> None:
    with pytest.raises(DataError) as caught:
        IdTokenizer(300).encode(f"1 {text}")
    assert (caught.value.code, caught.value.problems[0].value) == ("invalid", f"1 {text}")


@pytest.mark.parametrize(
    "tokenizer",
    [
        Gpt2Tokenizer(),
        CharTokenizer("éß"),
        DigitsTokenizer(7),
        SeenVocabulary(CharTokenizer("é"), [65, 66, 256]),
        TableTokenizer([b"a", b"\xff", b""]),
        SeenVocabulary(TableTokenizer([b"a", b"b", b"c"]), [0, 2]),
        IdTokenizer(5),
    ],
)
def test_from_state_rebuilds_the_tokenizer(tokenizer: Tokenizer) -> None:
    again = tokenizers.from_state(json.loads(json.dumps(tokenizer.state())))
    assert again.n_vocab == tokenizer.n_vocab
    assert [again.token_bytes(i) for i in range(3)] == [tokenizer.token_bytes(i) for i in range(3)]


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"name": "char"},
        {"name": "table"},
        {"name": "table", "tokens": 3},
        {"name": "table", "tokens": "YQ=="},
        {"name": "table", "tokens": ["a"]},
        {"name": "table", "tokens": [3]},
        {"name": "ids", "n_vocab": "5"},
        {"name": "ids", "n_vocab": True},
        {"name": "ids", "n_vocab": -1},
        {"name": "tabel", "tokens": []},
    ],
)
def test_from_state_refuses_a_damaged_state(state: dict[str, Any]) -> None:
    with pytest.raises(DataError):
        tokenizers.from_state(state)
