"""Measurements by layer against plain computations on the same model, and how layers of any model are identified."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.core.tiny import of_kind, trainer, trainer_and_run
from tui_lab.core import events as ev
from tui_lab.core.training.layer_metrics import (
    DeadUnits,
    UpdateRatios,
    gradient_norms,
    layer_name,
    means_by_layer,
    parameters_by_layer,
)

TWO_LAYERS = "model.n_layers=2"


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("layers.3.W_1.weight", "layers.3"),
        ("inner.transformer.h.0.attn.c_attn.bias", "transformer.h.0"),
        ("_orig_mod.module.model.layers.11.mlp.0.weight", "model.layers.11"),
        ("encoder.block.2", "encoder.block.2"),
        ("0.weight", "0"),
        ("head.weight", None),
        ("W_E.weight", None),
        ("conv1.weight", None),
    ],
)
def test_layer_of_a_parameter_is_its_name_up_to_the_first_number(name: str, layer: str | None) -> None:
    assert layer_name(name) == layer


def test_measurements_by_layer_of_a_step() -> None:
    training = trainer(TWO_LAYERS, "train.steps=1", "optim.grad_clip=0.01")
    batch = training.loader.batch(0)
    before = {name: p.detach().double().clone() for name, p in training.model.named_parameters()}
    loss = F.cross_entropy(
        training.model(torch.from_numpy(batch.x)).flatten(0, 1), torch.from_numpy(batch.y).flatten(), ignore_index=-1
    )
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = {name: p.grad.double() for name, p in training.model.named_parameters() if p.grad is not None}
    training.model.zero_grad()

    [step] = of_kind(ev.StepDone, training.events())
    assert step.by_layer is not None and set(step.by_layer) == {"grad_norm", "update_ratio", "dead_units"}
    after = {name: p.detach().double() for name, p in training.model.named_parameters()}
    for layer in ("layers.0", "layers.1"):
        names = [name for name in before if name.startswith(f"{layer}.")]
        norm = math.sqrt(sum(float((gradients[name] ** 2).sum()) for name in names))
        assert step.by_layer["grad_norm"][layer] == pytest.approx(norm, rel=1e-3), "before clipping"
        matrices = [name for name in names if before[name].dim() == 2]
        change = math.sqrt(sum(float(((after[name] - before[name]) ** 2).sum()) for name in matrices))
        size = math.sqrt(sum(float((before[name] ** 2).sum()) for name in matrices))
        assert step.by_layer["update_ratio"][layer] == pytest.approx(change / size, rel=1e-3)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in training.model.modules())


def test_dead_units_are_counted_in_their_layer() -> None:
    training = trainer(TWO_LAYERS, "train.steps=1")
    with torch.no_grad():
        training.model.layers[1].W_1.bias[:6] = -1e4  # type: ignore[union-attr,index]
    [step] = of_kind(ev.StepDone, training.events())
    assert step.by_layer is not None
    first, second = step.by_layer["dead_units"].values()
    assert first < 6 / 8 <= second and step.dead_units == pytest.approx((first + second) / 2, abs=1e-3)


def test_unit_that_one_micro_batch_activates_is_not_dead() -> None:
    model = nn.Sequential(nn.ReLU())
    watched = DeadUnits(model)
    row = torch.tensor([[1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])
    model(row)
    model(row.flip(1))
    assert {name: float(share) for name, share in watched.shares().items()} == {"0": pytest.approx(1 / 3)}
    assert means_by_layer({"h.0.relu": 0.5, "h.0.mlp.1": 0.0, "h.1.relu": 1.0, "relu": 0.3}) == {
        "h.0": 0.25,
        "h.1": 1.0,
    }


def test_layers_are_measured_every_fifty_steps() -> None:
    steps = of_kind(ev.StepDone, trainer("train.steps=101").events())
    assert [step.step for step in steps if step.by_layer] == [1, 51, 101]


def test_model_of_layers_without_names_of_ours_is_measured_by_name() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "h": nn.ModuleList(nn.Linear(4, 4) for _ in range(3))})
    for i in range(3):
        model.get_submodule(f"h.{i}")(torch.ones(2, 4)).sum().backward()
    ratios = UpdateRatios(model)
    with torch.no_grad():
        model.get_parameter("h.1.weight").mul_(1.1)
    ratios.measure()
    total, by_layer = ratios.read()
    assert by_layer == {"h.0": 0.0, "h.1": pytest.approx(0.1, rel=1e-4), "h.2": 0.0} and 0 < (total or 0) < 0.1
    norms = {layer: float(norm) for layer, norm in gradient_norms(model).items()}
    assert norms == {f"h.{i}": pytest.approx(math.sqrt(16 * 4 + 4 * 4)) for i in range(3)}


def test_model_without_numbered_layers_has_no_measurements_by_layer() -> None:
    model = nn.ModuleDict({"embedding": nn.Embedding(5, 4), "head": nn.Linear(4, 5)})
    ratios = UpdateRatios(model)
    ratios.measure()
    assert parameters_by_layer(model) == {} and gradient_norms(model) == {} and ratios.read() == (None, {})


def test_downsampled_log_keeps_measurements_by_layer(tmp_path: Path) -> None:
    training, run = trainer_and_run(tmp_path / "run", TWO_LAYERS, "train.steps=301")
    list(run.record(training.events()))
    kept = [event.step for event in run.downsampled().events() if isinstance(event, ev.StepDone) and event.by_layer]
    assert kept == [1, 51, 101, 151, 201, 251, 301]
    lines = (tmp_path / "run" / "events.jsonl").read_text("utf-8").splitlines()
    assert sum("by_layer" in line for line in lines) == 7, "it takes no room where it was not measured"
