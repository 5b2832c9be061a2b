"""The vocabulary of a script's model is compared with the tokenizer among the script's variables."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.doctor.checks.data import vocabulary_size
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.script.capture import Capture
from tui_lab.core.doctor.script.target import target_from_script
from tui_lab.core.doctor.script.vocabularies import Vocabulary, script_vocabularies

HIGHEST = 90
"""Of the ids in the batches."""


class OfLibrary:
    """Has the methods of the tokenizers of transformers."""

    def __init__(self, n_vocab: int) -> None:
        self.n_vocab = n_vocab

    def get_vocab(self) -> dict[str, int]:
        return {f"piece {number}": number for number in range(self.n_vocab)}

    def encode(self, text: str) -> list[int]:
        return [int(word) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(map(str, ids))


class Model(nn.Module):
    def __init__(self, n_rows: int, n_logits: int) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(n_rows, 8), nn.Linear(8, n_logits)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.embedding(x))
        return logits


def found(n_rows: int, *tokenizers: int, n_logits: int | None = None) -> list[Finding]:
    """Train a model of `n_rows` entries in a function with tokenizers of these sizes, and check its ids."""
    of_script = [OfLibrary(n_vocab) for n_vocab in tokenizers]
    first, second, *_ = [*of_script, None, None]
    torch.manual_seed(0)
    model = Model(n_rows, n_logits or n_rows)
    capture = Capture()
    with LoopRecorder(capture=capture) as recorder:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(4):
            rows = torch.randint(0, HIGHEST, (4, 17))
            rows[0, 0] = HIGHEST
            targets = rows[:, 1:] % (n_logits or n_rows)
            F.cross_entropy(model(rows[:, :-1]).flatten(0, 1), targets.flatten()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
    capture.close()
    assert {each.n_vocab for each in (first, second) if each is not None} == set(tokenizers)
    target = target_from_script(capture, recorder.record(), model, recorder.optimizers, trained=False)
    return list(vocabulary_size.check(target))


@pytest.mark.parametrize(("n_rows", "tokenizer"), [(2000, 100), (10_240, 9_900), (10_241, 10_059)])
def test_vocabulary_of_another_tokenizer_is_a_finding(n_rows: int, tokenizer: int) -> None:
    (finding,) = found(n_rows, tokenizer)
    assert (finding.code, finding.kind) == ("wrong_vocab", "finding")
    assert f"{n_rows:,}" in finding.title and f"{tokenizer:,}" in finding.title


@pytest.mark.parametrize(("n_rows", "tokenizer"), [(100, 100), (128, 100), (1024, 1000), (10_240, 10_059)])
def test_vocabulary_that_is_rounded_up_is_no_finding(n_rows: int, tokenizer: int) -> None:
    assert found(n_rows, tokenizer) == []


@pytest.mark.parametrize("tokenizer", [100, 50_257])
def test_script_may_keep_only_the_ids_that_it_uses(tokenizer: int) -> None:
    assert found(HIGHEST + 1, tokenizer) == []


def test_one_of_several_tokenizers_may_fit() -> None:
    assert found(2000, 100, 2000) == []


@pytest.mark.parametrize("tokenizers", [(), (100, 120), (50,)])
def test_vocabulary_that_may_be_wrong_is_not_judged_without_its_tokenizer(
    tokenizers: tuple[int, ...],
) -> None:
    with pytest.raises(NotJudged):
        found(2000, *tokenizers)


def test_ids_that_use_the_vocabulary_need_no_tokenizer() -> None:
    assert found(HIGHEST + 10) == []


def test_embedding_of_a_model_that_returns_labels_is_no_vocabulary_of_logits() -> None:
    assert found(2000, 100, n_logits=5) == []


@pytest.mark.parametrize(("end", "padding"), [(2, 0), (0, None)])
def test_padding_is_an_id_that_marks_nothing_else(end: int, padding: int | None) -> None:
    class Padding(OfLibrary):
        pad_token_id, eos_token_id = 0, end

    tokenizer = Padding(100)
    assert script_vocabularies() == {Vocabulary(tokenizer.n_vocab, padding)}


def test_chat_template_shows_what_opens_an_answer() -> None:
    class WithTemplate(OfLibrary):
        chat_template = "{{ messages }}"

        def apply_chat_template(self, messages: object, *, tokenize: bool, add_generation_prompt: bool) -> str:
            return "5 6" + (" 7 8" if add_generation_prompt else "")

        def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
            return super().encode(text)

    tokenizer = WithTemplate(100)
    assert script_vocabularies() == {Vocabulary(tokenizer.n_vocab, None, (7, 8))}
