"""A model of tokens whose targets are classes: its ids are not read with the names of the classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tui_lab
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, read_batch
from tui_lab.core.watch.model.class_names import class_names
from tui_lab.data.dataset import IGNORED
from tui_lab.data.tokenizers import Tokenizer

V, B, T, N_CLASSES = 40, 4, 6, 3


class Config:
    """Of a classifier, as in transformers."""

    def __init__(self) -> None:
        self.id2label = {i: f"LABEL_{i}" for i in range(N_CLASSES)}


class Words:
    """A tokenizer with the methods of Hugging Face's."""

    def get_vocab(self) -> dict[str, int]:
        return {f"w{i}": i for i in range(V)}

    def encode(self, text: str) -> list[int]:
        return [int(word[1:]) for word in text.split()]

    def decode(self, ids: list[int]) -> str:
        return " ".join(f"w{i}" for i in ids)


class Classifier(nn.Module):
    """Logits [B, T, 3] of ids [B, T], or [B, 3] of rows."""

    def __init__(self, *, of_rows: bool) -> None:
        super().__init__()
        self.config = Config()
        self.of_rows = of_rows
        self.embedding = nn.Embedding(V, 8)
        self.positions = nn.Embedding(50, 8)
        self.head = nn.Linear(8, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.embedding(x) + self.positions.weight[: x.shape[1]]
        logits: Tensor = self.head(hidden.mean(1) if self.of_rows else hidden)
        return logits


def train(folder: Path, words: Words | None, *, of_rows: bool) -> tuple[Tokenizer, RecordedBatch]:
    """Train for three steps; `words` is a variable of the script. Return what is recorded."""
    torch.manual_seed(0)
    with tui_lab.watch(out=folder / "run") as run:
        model = Classifier(of_rows=of_rows)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(3):
            x = torch.randint(V, (B, T))
            x[0, 0] = V - 1
            y = torch.randint(N_CLASSES, (B,) if of_rows else (B, T))
            optimizer.zero_grad()
            F.cross_entropy(model(x).reshape(-1, N_CLASSES), y.flatten()).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    assert words is None or words.encode("w1") == [1]
    assert run.path is not None
    batch = read_batch(run.path)
    assert batch is not None
    return Run(run.path).tokenizer(), batch


@pytest.mark.parametrize("of_rows", [True, False])
def test_ids_are_read_with_the_tokenizer_of_the_script(of_rows: bool, tmp_path: Path) -> None:
    tokenizer, _ = train(tmp_path, Words(), of_rows=of_rows)
    assert tokenizer.token_bytes(V - 1).strip() == f"w{V - 1}".encode()


@pytest.mark.parametrize("of_rows", [True, False])
def test_ids_stay_numbers_without_a_tokenizer(of_rows: bool, tmp_path: Path) -> None:
    tokenizer, _ = train(tmp_path, None, of_rows=of_rows)
    assert (tokenizer.name, tokenizer.n_vocab) == ("ids", V)


def test_class_of_each_row_is_recorded(tmp_path: Path) -> None:
    _, batch = train(tmp_path, None, of_rows=True)
    assert batch.row_classes is not None and batch.y is None
    assert batch.class_names == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert batch.row_classes.shape == (B,) and np.isin(batch.row_classes, range(N_CLASSES)).all()


def test_targets_of_tokens_are_recorded_as_classes(tmp_path: Path) -> None:
    _, batch = train(tmp_path, None, of_rows=False)
    assert batch.n_classes == N_CLASSES and batch.row_classes is None
    assert batch.y is not None and batch.y.shape == (B, T) and (batch.y != IGNORED).all()
    assert batch.class_names == ("LABEL_0", "LABEL_1", "LABEL_2")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({0: "O", 1: "B-PER"}, ("O", "B-PER")),
        ({"1": "B-PER", "0": "O"}, ("O", "B-PER")),
        ({0: "O"}, ()),
        ({"a": "O", "b": "B-PER"}, ()),
        (None, ()),
    ],
)
def test_classes_have_the_names_of_the_config(names: dict[object, str] | None, expected: tuple[str, ...]) -> None:
    model = Classifier(of_rows=True)
    vars(model.config)["id2label"] = names
    assert class_names(model, 2) == expected
    assert class_names(nn.Linear(2, 2), 2) == class_names(None, 2) == ()
