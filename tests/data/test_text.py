"""Next-token prediction over windows of a text."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.data.corpora.encode import Corpus, load_corpus
from tui_lab.data.tasks.text import text_task
from tui_lab.data.tokenizers import CharTokenizer, decode
from tui_lab.util.errors import DataError


def corpus(n: int) -> Corpus:
    """The letters a to z, repeated, n characters in all."""
    text = "".join(chr(97 + i % 26) for i in range(n))
    tokenizer = CharTokenizer()
    return Corpus("letters", tokenizer.encode(text), tokenizer, n, 0)


@given(n=st.integers(30, 400), context=st.integers(1, 12), stride=st.integers(1, 9), share=st.floats(0.2, 0.8))
def test_windows_have_next_token_targets_within_their_own_part(n: int, context: int, stride: int, share: float) -> None:
    source = corpus(n)
    try:
        task = text_task(source, context=context, stride=stride, val_fraction=share, vocab="full")
    except DataError:
        assert min(round(n * share), n - round(n * share)) < context + 1
        return
    n_train = n - round(n * share)
    for part, low, high in ((task.train, 0, n_train), (task.val, n_train, n)):
        ids = np.arange(part.n_examples)
        x, y = part.examples(ids)
        assert x.shape == y.shape == (part.n_examples, context)
        assert (y[:, :-1] == x[:, 1:]).all()
        offsets = part.offsets(ids)
        assert offsets is not None
        for row, offset in enumerate(offsets.tolist()):
            assert low <= offset and offset + context + 1 <= high, "a window reached into the other part"
            assert x[row].tolist() == source.tokens[offset : offset + context].tolist()
            assert y[row, -1] == source.tokens[offset + context]
    used = part.offsets(np.array([part.n_examples - 1]))
    assert used is not None and used[0] + 2 * context + 1 > n, "no room for one more validation window"


def test_context_longer_than_the_text_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        text_task(corpus(100), context=20, stride=1, val_fraction=0.1, vocab="full")
    [problem] = caught.value.problems
    assert (problem.key, problem.value, problem.allowed) == ("model.context", 20, "at most 9")
    text_task(corpus(100), context=9, stride=1, val_fraction=0.1, vocab="full")


def test_seen_vocabulary_has_the_tokens_of_the_training_part(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("know thyself " * 30 + "zzzz " * 8, "utf-8")
    source = load_corpus(str(path), "char")
    task = text_task(source, context=8, stride=1, val_fraction=0.1, vocab="seen")
    assert task.tokenizer.n_vocab == len(set("know thyself ")) + 1
    x, _ = task.train.examples(np.array([0]))
    assert decode(task.tokenizer, x[0].tolist()) == "know thy"
    assert x.max() < task.tokenizer.n_vocab
    held_out, _ = task.val.examples(np.arange(task.val.n_examples))
    assert held_out.max() < task.tokenizer.n_vocab
    assert len(np.unique(held_out)) < len(set("know thyself z")), "z is unknown"
