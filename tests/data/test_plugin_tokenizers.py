"""Tokenizers of plug-ins encode a corpus and come back from a run folder; a wrong one is refused by name."""

from pathlib import Path

import numpy as np
import pytest

from tests.plugin_packages import Install
from tui_lab.data.corpora.encode import load_corpus
from tui_lab.data.tokenizers import decode, from_state
from tui_lab.util import plugin_registry
from tui_lab.util.errors import DataError
from tui_lab.util.plugin_registry import PluginError

WORDS = """
    import numpy as np


    class Words:
        name = "words"

        def __init__(self, words):
            self.words = sorted(words)
            self.n_vocab = len(self.words) + 1

        @classmethod
        def from_text(cls, pieces):
            return cls({word for piece in pieces for word in piece.split()})

        @classmethod
        def from_state(cls, state):
            return cls(state["words"])

        def encode(self, text):
            ids = {word: i for i, word in enumerate(self.words)}
            return np.array([ids.get(word, len(ids)) for word in text.split()], dtype=np.int64)

        def token_bytes(self, token):
            return (self.words[token] if token < len(self.words) else "?").encode() + b" "

        def state(self):
            return {"name": "words", "words": self.words}
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat\n" * 20, "utf-8")
    return str(path)


def test_a_corpus_is_encoded_and_cached_by_a_plugin_s_tokenizer(install: Install, text: str) -> None:
    install("lab-words", "1.0", WORDS, tokenizers="words = lab_words:Words")
    corpus = load_corpus(text, "words")
    assert corpus.tokenizer.n_vocab == 6 and len(corpus.tokens) == 120
    assert decode(corpus.tokenizer, corpus.tokens[:6]) == "the cat sat on the mat "
    assert np.array_equal(load_corpus(text, "words").tokens, corpus.tokens)
    rebuilt = from_state(corpus.tokenizer.state())
    assert rebuilt.state() == corpus.tokenizer.state() and rebuilt.encode("mat cat").tolist() == [1, 0]


def test_another_version_of_the_package_encodes_again(install: Install, text: str, tmp_path: Path) -> None:
    install("lab-words", "1.0", WORDS, tokenizers="words = lab_words:Words")
    load_corpus(text, "words")
    [metadata] = (tmp_path / "packages").glob("*/*.dist-info")
    metadata.rename(metadata.with_name("lab_words-2.0.dist-info"))
    content = (metadata.with_name("lab_words-2.0.dist-info") / "METADATA").read_text("utf-8").replace("1.0", "2.0")
    (metadata.with_name("lab_words-2.0.dist-info") / "METADATA").write_text(content, "utf-8")
    plugin_registry.forget()
    load_corpus(text, "words")
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 2


def test_a_state_without_its_plugin_is_an_unknown_name() -> None:
    with pytest.raises(DataError) as raised:
        from_state({"name": "words", "words": ["a"]})
    assert raised.value.code == "unknown_name" and raised.value.problems[0].value == "words"


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("len(self.words) + 1", "len(self.words)", "the id 5, and n_vocab is 5"),
        ("dtype=np.int64", "dtype=np.float32", "encode returned float32"),
        ("len(self.words) + 1", "'many'", "n_vocab is 'many'"),
        ("cls(state[", "cls(['x'] + state[", "from_state(tokenizer.state()) is another tokenizer"),
        ('"words": self.words}', '"words": {"a"}}', "state() is not JSON"),
        ("piece.split()}", "piece.splat()}", "from_text failed: AttributeError"),
    ],
)
def test_a_wrong_tokenizer_is_refused_and_names_its_package(
    install: Install, text: str, old: str, new: str, named: str
) -> None:
    assert old in WORDS
    install("lab-words", "1.0", WORDS.replace(old, new), tokenizers="words = lab_words:Words")
    with pytest.raises(PluginError) as raised:
        load_corpus(text, "words").tokenizer.encode("dog")
    assert named in str(raised.value) and "lab-words 1.0" in str(raised.value)
