"""What a Trainer of transformers reports of an evaluation counts; a small stand-in for the library's event handler."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import tui_lab
from tests.core.watch.loops import closed_events
from tui_lab.core import events as ev


class Model(nn.Module):
    """Returns logits; its cross-entropy is not the loss that the stand-in for a Trainer reports."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 7))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)
        return logits


class CallbackHandler:
    """Has the methods that each Trainer calls after an evaluation and a prediction."""

    def __init__(self, model: nn.Module, loader: Any) -> None:
        self.model = model
        self.eval_dataloader = loader

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: dict[str, Any]) -> Any:
        return control

    def on_predict(self, args: Any, state: Any, control: Any, metrics: dict[str, Any]) -> Any:
        return control


X = torch.arange(6).reshape(2, 3)


class Trainer:
    def __init__(self, model: nn.Module, handler: CallbackHandler) -> None:
        self.model = model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        self.handler = handler

    def train(self) -> None:
        self.optimizer.zero_grad()
        logits = self.model(X)
        torch.autograd.backward(F.cross_entropy(logits.flatten(0, 1), X.flatten()))
        self.optimizer.step()

    def evaluation_loop(self) -> float:
        """Return the model's cross-entropy."""
        with torch.no_grad():
            return F.cross_entropy(self.model(X).flatten(0, 1), X.flatten()).item()

    def evaluate(self, **metrics: Any) -> None:
        self.evaluation_loop()
        assert self.handler.on_evaluate(None, None, "control", metrics) == "control"


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Trainer:
    """A Trainer of a process that has imported the library."""
    library = ModuleType("transformers.trainer_callback")

    class Handler(CallbackHandler):
        on_evaluate = CallbackHandler.on_evaluate
        on_predict = CallbackHandler.on_predict

    vars(library)["CallbackHandler"] = Handler
    monkeypatch.setitem(sys.modules, "transformers.trainer_callback", library)
    model = Model()
    return Trainer(model, Handler(model, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(5)))))


def evaluated(all_events: list[ev.Event]) -> list[tuple[int, float]]:
    return [(event.step, event.val_loss) for event in all_events if isinstance(event, ev.Evaluated)]


def logged(all_events: list[ev.Event]) -> list[dict[str, float]]:
    return [event.values for event in all_events if isinstance(event, ev.Logged)]


def warnings(all_events: list[ev.Event]) -> int:
    return sum(isinstance(event, ev.Warned) for event in all_events)


def test_reported_loss_counts_instead_of_the_cross_entropy(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    """As with a loss of preferences (DPO)."""
    for loss in (0.25, 0.125):
        trainer.train()
        trainer.evaluate(eval_loss=loss, eval_runtime=3.0, eval_other_loss=9.0)
    trainer.train()
    all_events = closed_events(run)
    assert evaluated(all_events) == [(1, 0.25), (2, 0.125)]
    first = next(event for event in all_events if isinstance(event, ev.Evaluated))
    assert first.perplexity is None
    assert first.examples == 5
    assert warnings(all_events) == 0


def test_perplexity_is_shown_where_the_reported_loss_is_the_cross_entropy(
    run: tui_lab.WatchedRun, trainer: Trainer
) -> None:
    trainer.train()
    trainer.evaluate(eval_loss=trainer.evaluation_loop())
    (event,) = [event for event in closed_events(run) if isinstance(event, ev.Evaluated)]
    assert event.perplexity is not None


def test_evaluation_before_the_first_step_is_the_reported_one(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    trainer.evaluate(eval_loss=0.5)
    trainer.train()
    all_events = closed_events(run)
    assert evaluated(all_events) == [(0, 0.5)]
    kinds = [event.kind for event in all_events]
    assert kinds.index("started") < kinds.index("evaluated")


def test_second_evaluation_after_a_step_is_not_its_validation_loss(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    """As with load_best_model_at_end and an evaluation after the training."""
    trainer.train()
    trainer.evaluate(eval_loss=0.5)
    trainer.evaluate(eval_loss=0.25)
    all_events = closed_events(run)
    assert evaluated(all_events) == [(1, 0.5)]
    assert logged(all_events) == [{"loss evaluated again": 0.25}]
    assert warnings(all_events) == 1


def test_same_evaluation_again_is_recorded_once(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    trainer.train()
    trainer.evaluate(eval_loss=0.5)
    trainer.evaluate(eval_loss=0.5)
    all_events = closed_events(run)
    assert evaluated(all_events) == [(1, 0.5)]
    assert warnings(all_events) == 0


@pytest.mark.parametrize("names", [("a", "val"), ("validation", "test"), ("a", "b"), ("test",)])
def test_data_sets_with_names_have_their_own_losses(
    names: tuple[str, ...], run: tui_lab.WatchedRun, trainer: Trainer
) -> None:
    trainer.train()
    for index, name in enumerate(names):
        trainer.evaluate(**{f"eval_{name}_loss": 0.5 + index})
    all_events = closed_events(run)
    validation = [0.5 + index for index, name in enumerate(names) if name in ("val", "validation")]
    assert [loss for _, loss in evaluated(all_events)] == validation
    others = [{f"loss {name}": 0.5 + index} for index, name in enumerate(names) if 0.5 + index not in validation]
    assert logged(all_events) == others


def test_prediction_is_no_validation(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    trainer.train()
    trainer.evaluation_loop()
    trainer.handler.on_predict(None, None, None, {"test_loss": 0.5})
    assert evaluated(closed_events(run)) == []


def test_loss_that_the_script_logs_counts_once(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    """As HuggingFaceCallback does before the Trainer's own event."""
    for _ in range(2):
        trainer.train()
        trainer.evaluation_loop()
        run.log(val_loss=3.0)
        trainer.handler.on_evaluate(None, None, None, {"eval_loss": 0.5})
    assert evaluated(closed_events(run)) == [(1, 3.0), (2, 3.0)]


def test_without_a_loss_in_the_metrics_the_observed_one_counts(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    trainer.train()
    trainer.evaluate(eval_accuracy=0.5)
    cross_entropy = trainer.evaluation_loop()
    trainer.handler.on_evaluate(None, None, None, {"eval_accuracy": 0.5})
    ((step, loss),) = evaluated(closed_events(run))
    assert step == 1
    assert loss == pytest.approx(cross_entropy)


def test_model_of_another_trainer_is_not_evaluated(run: tui_lab.WatchedRun, trainer: Trainer) -> None:
    trainer.train()
    trainer.handler.model = Model()
    trainer.handler.on_evaluate(None, None, None, {"eval_loss": 0.5})
    assert evaluated(closed_events(run)) == []


def test_library_is_unchanged_after_the_run(tmp_path: Path, trainer: Trainer) -> None:
    handler = type(trainer.handler)
    before = handler.on_evaluate
    with tui_lab.watch(out=tmp_path / "run"):
        trainer.train()
        assert handler.on_evaluate is not before
    assert handler.on_evaluate is before
