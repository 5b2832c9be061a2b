"""The cause of an error that ended a script is read from the variables of the functions that it passed through."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.script import error_causes
from tui_lab.core.doctor.script.error_causes import cause_of


class Classifier(nn.Module):
    """As those of transformers: without labels it returns no loss."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Any:
        logits = self.head(x)
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        return SimpleNamespace(logits=logits, loss=loss)


class Columns(list[dict[str, Any]]):
    """A data set with named columns."""

    @property
    def column_names(self) -> list[str]:
        return list(self[0])


class Trainer:
    """Fails as that of transformers does."""

    def __init__(self, model: nn.Module, rows: Columns, label_names: list[str]) -> None:
        self.model, self.train_dataset, self.label_names = model, rows, label_names
        self.args = SimpleNamespace()

    def train(self) -> None:
        inputs = {"x": torch.zeros(1, 3)}
        if self.model(**inputs).loss is None:
            raise ValueError("The model did not return a loss from the inputs, only the following keys: logits.")

    def evaluate(self) -> None:
        raise KeyError("The `metric_for_best_model` training argument is set to 'eval_accuracy', which is not found")


PLAIN = """
def train(model, batch):
    for p in model.parameters():
        p.requires_grad = {value}
    model(**batch).loss.backward()
"""
TRAINER = """
def train(make):
    rows = [{"x": [0.0], "text": "a", "speaker": 1}]
    trainer = make(rows)
    trainer.train()
"""


def cause(tmp_path: Path, code: str, *arguments: Any) -> Finding | None:
    """Run `train` of the code, and return the cause of its error."""
    file = tmp_path / "train.py"
    file.write_text(code, "utf-8")
    names: dict[str, Any] = {}
    exec(compile(code, str(file), "exec"), names)
    try:
        names["train"](*arguments)
    except Exception as error:
        return cause_of(error)
    raise AssertionError("the code did not fail")


def place(finding: Finding | None) -> tuple[str, int]:
    assert finding is not None
    return finding.code, int(finding.location.rpartition(":")[2])


LABELED = {"x": torch.zeros(2, 3), "labels": torch.tensor([0, 1])}


def test_model_without_a_trainable_weight_is_named_with_the_line_that_freezes_it(tmp_path: Path) -> None:
    assert place(cause(tmp_path, PLAIN.format(value=False), Classifier(), LABELED)) == ("frozen_parameters", 4)


def test_adapter_that_is_only_meant_for_inference_is_named(tmp_path: Path) -> None:
    model = Classifier().requires_grad_(requires_grad=False)
    model.peft_config = {"default": SimpleNamespace(inference_mode=True)}  # type: ignore[assignment]
    code = (
        "def train(model, batch):\n    config = dict(inference_mode=True)\n    loss = model(**batch).loss\n"
        "    loss.backward()\n"
    )
    assert place(cause(tmp_path, code, model, LABELED)) == ("frozen_parameters", 2)


def test_detached_loss_of_a_model_that_can_be_trained_is_no_freezing(tmp_path: Path) -> None:
    code = "def train(model, batch):\n    model(**batch).loss.detach().backward()\n"
    assert cause(tmp_path, code, Classifier(), LABELED) is None


def test_loss_that_is_none_means_that_no_labels_reached_the_model(tmp_path: Path) -> None:
    unlabeled = {"x": torch.zeros(2, 3)}
    assert place(cause(tmp_path, PLAIN.format(value=True), Classifier(), unlabeled)) == ("missing_labels", 5)


def test_none_of_another_origin_has_no_known_cause(tmp_path: Path) -> None:
    code = "def train(model, batch):\n    loss = None\n    model(**batch)\n    loss.backward()\n"
    assert cause(tmp_path, code, Classifier(), LABELED) is None


def test_column_that_a_trainer_drops_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The Trainer of this file stands for that of an installed package.
    monkeypatch.setattr(error_causes, "is_user_code", lambda file: file.endswith("train.py"))
    finding = cause(tmp_path, TRAINER, lambda rows: Trainer(Classifier(), Columns(rows), ["labels"]))
    assert place(finding) == ("missing_labels", 3)
    assert finding is not None and "speaker" in finding.evidence and "text" not in finding.evidence


@pytest.mark.parametrize(("names", "code"), [(["speaker"], "missing_labels"), (["labels"], None)])
def test_label_names_that_the_model_does_not_take(names: list[str], code: str | None, tmp_path: Path) -> None:
    source = f"def train(make):\n    trainer = make(label_names={names!r})\n    trainer.evaluate()\n"
    finding = cause(tmp_path, source, lambda label_names: Trainer(Classifier(), Columns(), label_names))
    assert (None if finding is None else place(finding)) == (None if code is None else (code, 2))
