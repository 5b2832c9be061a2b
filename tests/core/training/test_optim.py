"""Optimizers and schedules against the textbook and torch."""

import math
from collections.abc import Callable
from typing import Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.core.config.schema import ModelConfig, OptimConfig
from tui_lab.core.model import Transformer
from tui_lab.core.training.optim import build_optimizers, lr_at, set_weight_decay

MODEL = ModelConfig(d_model=6, n_layers=1, n_heads=2, d_head=3, d_ff=8, context=5)
Name = Literal["sgd", "momentum", "adam", "adamw"]


def gradients(model: Transformer, update: int) -> None:
    generator = torch.Generator().manual_seed(update)
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter).normal_(generator=generator)


def by_hand(name: Name, p: torch.Tensor, updates: int, lr: float, decay: float, grads: list[torch.Tensor]) -> None:
    """The textbook update, in place: Adam (Kingma and Ba 2015), AdamW (Loshchilov and Hutter 2019)."""
    m, v = torch.zeros_like(p), torch.zeros_like(p)
    for t in range(1, updates + 1):
        g = grads[t - 1]
        if name == "adamw":
            p -= lr * decay * p
        else:
            g = g + decay * p
        if name == "sgd":
            p -= lr * g
        elif name == "momentum":
            m = 0.9 * m + g
            p -= lr * m
        else:
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
            p -= lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_updates_equal_the_textbook_and_only_matrices_decay(name: Name) -> None:
    model = Transformer(MODEL, 7)
    expected = {n: p.detach().clone() for n, p in model.named_parameters()}
    grads: dict[str, list[torch.Tensor]] = {n: [] for n in expected}
    optimizers = build_optimizers(model, OptimConfig(name=name, lr=0.01, weight_decay=0.1))
    for update in range(4):
        gradients(model, update)
        for n, p in model.named_parameters():
            assert p.grad is not None
            grads[n].append(p.grad.clone())
        for optimizer in optimizers:
            optimizer.step()
    for n, p in model.named_parameters():
        by_hand(name, expected[n], 4, 0.01, 0.1 if p.dim() >= 2 else 0.0, grads[n])
        torch.testing.assert_close(p.detach(), expected[n], msg=n)


def test_muon_updates_hidden_matrices_and_adamw_the_rest() -> None:
    model = Transformer(MODEL, 7)
    muon, adamw = build_optimizers(model, OptimConfig(name="muon", lr=0.1))
    of_muon = {id(p) for group in muon.param_groups for p in group["params"]}
    of_adamw = {id(p) for group in adamw.param_groups for p in group["params"]}
    hidden = {id(p) for n, p in model.named_parameters() if n.startswith("layers.") and p.dim() == 2}
    assert of_muon == hidden and of_muon.isdisjoint(of_adamw)
    assert of_muon | of_adamw == {id(p) for p in model.parameters()}
    weight = model.get_parameter("layers.0.W_1.weight")
    before = weight.detach().clone()
    gradients(model, 0)
    muon.step()
    singular = torch.linalg.svdvals(weight.detach() - before)
    # Newton-Schulz makes the singular values of the step roughly equal (Jordan et al. 2024 give 0.7 to 1.2).
    assert singular.max() / singular.min() < 2.0


def test_weight_decay_is_set_for_matrices_only() -> None:
    optimizers = build_optimizers(Transformer(MODEL, 7), OptimConfig(name="adamw"))
    set_weight_decay(optimizers, 0.5)
    decays = {p.dim(): group["weight_decay"] for o in optimizers for group in o.param_groups for p in group["params"]}
    assert decays == {1: 0.0, 2: 0.5}


schedules = st.sampled_from(("constant", "cosine", "linear", "step"))


@given(schedules, st.integers(0, 20), st.integers(1, 60), st.floats(0, 1))
@settings(deadline=None)
def test_learning_rate_rises_only_during_warm_up(
    schedule: Literal["constant", "cosine", "linear", "step"], warmup: int, steps: int, low: float
) -> None:
    config = OptimConfig(lr=0.3, schedule=schedule, warmup_steps=warmup, min_lr_ratio=low, step_every=7)
    rates = [lr_at(step, steps + warmup, config) for step in range(steps + warmup)]
    rising, falling = rates[:warmup], rates[warmup:]
    assert rising == pytest.approx([0.3 * (i + 1) / warmup for i in range(warmup)])
    assert falling[0] == pytest.approx(0.3)
    assert all(later <= earlier + 1e-12 for earlier, later in zip(falling, falling[1:], strict=False))
    assert min(falling) >= 0.3 * low - 1e-12


def test_schedules_equal_those_of_torch() -> None:
    def torchs(make: Callable[..., torch.optim.lr_scheduler.LRScheduler], **options: float) -> list[float]:
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.2)
        scheduler = make(optimizer, **options)
        rates = []
        for _ in range(20):
            rates.append(float(scheduler.get_last_lr()[0]))
            optimizer.step()
            scheduler.step()
        return rates

    def ours(**changes: object) -> list[float]:
        config = OptimConfig.model_validate({"lr": 0.2, "min_lr_ratio": 0.1} | changes)
        return [lr_at(step, 20, config) for step in range(20)]

    schedulers = torch.optim.lr_scheduler
    assert ours(schedule="cosine") == pytest.approx(torchs(schedulers.CosineAnnealingLR, T_max=20, eta_min=0.02))
    linear = torchs(schedulers.LinearLR, start_factor=1.0, end_factor=0.1, total_iters=20)
    assert ours(schedule="linear") == pytest.approx(linear)
    step = torchs(schedulers.StepLR, step_size=6, gamma=0.5)
    assert ours(schedule="step", step_every=6, min_lr_ratio=0.0) == pytest.approx(step)
    assert ours(schedule="constant") == [0.2] * 20 and math.isclose(sum(ours(schedule="constant")), 4.0)
