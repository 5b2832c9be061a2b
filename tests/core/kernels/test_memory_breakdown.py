"""The computed memory of a step is that of the tensors: weights, gradients, optimizer state and activations."""

import pytest
import torch

from tests.core.tiny import tiny
from tui_lab.core.config import settings
from tui_lab.core.kernels.memory_breakdown import breakdown
from tui_lab.core.training.memory_measure import Saved, optimizer_state_bytes, saved_bytes, tensor_bytes
from tui_lab.core.training.setup import TrainSetup, set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer

SHAPES = (
    (),
    ("model.n_layers=3", "model.n_heads=3", "model.d_head=5", "model.d_ff=12"),
    ("train.batch_size=7", "train.accumulate=3", "model.d_model=12"),
    ("model.dropout=0.1", "model.n_heads=3", "model.n_layers=2"),
    ("data.length=2", "model.context=9", "data.overfit=3"),
)
PRECISIONS = ("fp32", "bf16", "fp16")


def trained(*overrides: str) -> TrainSetup:
    config = tiny(*overrides)
    return set_up(config, build_task(config))


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw", "muon"])
def test_weights_gradients_and_optimizer_state_are_exact(name: str) -> None:
    setup = trained(f"optim.name={name}", "model.n_layers=2", "model.d_head=3")
    trainer = Trainer(setup)
    trainer.hooks.set_mode(setup.model)
    trainer.train_step()
    batch = trainer.loader.batch(1)
    estimated = breakdown(setup.progress.config, setup.task.tokenizer.n_vocab)
    assert estimated.weights == tensor_bytes(setup.model.parameters())
    x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y)
    setup.model.loss_sum(x, y).backward()  # type: ignore[no-untyped-call]
    assert estimated.gradients == tensor_bytes(p.grad for p in setup.model.parameters() if p.grad is not None)
    assert estimated.optimizer == optimizer_state_bytes(setup.optimizers)
    assert estimated.batch == batch.x.nbytes + batch.y.nbytes


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_activations_are_those_that_autograd_saves(shape: tuple[str, ...], precision: str) -> None:
    setup = trained(f"train.precision={precision}", *shape)
    estimated = breakdown(setup.progress.config, setup.task.tokenizer.n_vocab)
    assert saved_bytes(setup) == Saved(estimated.activations, estimated.head)


@pytest.mark.parametrize("matmul", ["blas", "onednn"])
def test_activations_do_not_depend_on_the_library(matmul: str) -> None:
    setup = trained(f"train.matmul={matmul}", "train.batch_size=64", "model.d_ff=1024", "model.d_model=64")
    estimated = breakdown(setup.progress.config, setup.task.tokenizer.n_vocab)
    assert saved_bytes(setup).layers == estimated.activations


@pytest.mark.parametrize(
    "overrides", [("train.matmul=onednn",), ("train.precision=bf16",), ("train.precision=fp16",)], ids=str
)
def test_head_of_a_large_vocabulary_keeps_its_gradients(overrides: tuple[str, ...]) -> None:
    small = ("model.d_model=8", "model.d_ff=8", "model.n_layers=1", "train.head_rows=16", "train.matmul=blas")
    config = settings.load("overfit-one", (*small, *overrides))
    setup = set_up(config, build_task(config))
    estimated = breakdown(config, setup.task.tokenizer.n_vocab)
    assert saved_bytes(setup) == Saved(estimated.activations, estimated.head)


def test_step_holds_its_parts_but_not_all_at_once() -> None:
    config = tiny("train.batch_size=64")
    parts = breakdown(config, 5)
    held = parts.weights + parts.optimizer + parts.batch
    assert held + parts.activations + parts.head < parts.step
    assert parts.step < held + parts.gradients + parts.activations + parts.head + parts.logits + parts.copies + 10**5
    accumulating = breakdown(tiny("train.batch_size=64", "train.accumulate=2"), 5)
    assert accumulating.activations < parts.activations
