"""Mixed precision: close to float32, float32 weights, resumed bit for bit; the loss scale of float16."""

from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from tests.core.synchronizations import synchronizations
from tests.core.tiny import last_checkpoint, losses, same_weights, tiny, trainer
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import ModelConfig
from tui_lab.core.kernels import bf16_head
from tui_lab.core.kernels.head_loss import head_loss_sum
from tui_lab.core.kernels.linear import Kernels, onednn_has_bf16
from tui_lab.core.kernels.precision import Precision
from tui_lab.core.model import Transformer
from tui_lab.core.runs.folder import Run
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.loss_scale import FIRST_SCALE, GROWTH_STEPS, LossScale
from tui_lab.core.training.train_step import TrainStepHooks, backward
from tui_lab.core.user_code.external_model import ExternalModel

HALF: tuple[Precision, ...] = ("bf16", "fp16")
CONFIG = ModelConfig(d_model=16, n_layers=2, n_heads=2, d_head=8, d_ff=32, context=9)


def model_of(precision: Precision, n_vocab: int) -> Transformer:
    model = Transformer(CONFIG, n_vocab)
    torch.nn.init.normal_(model.head.bias, generator=torch.Generator().manual_seed(1))
    model.set_kernels(Kernels(head_rows=4, precision=precision))
    return model


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("n_vocab", [11, 5000])
def test_loss_and_gradients_are_close_to_float32(n_vocab: int, precision: Precision) -> None:
    x = torch.arange(18).view(2, 9) % 11
    y = (x + 1) % 11
    y[0, :3] = y[1, 8] = -1
    models = [model_of(p, n_vocab) for p in ("fp32", precision)]
    expected_loss, expected_norm = backward(models[0], TrainStepHooks(), x, y)
    loss, norm = backward(models[1], TrainStepHooks(), x, y, scale=1024.0 if precision == "fp16" else 1.0)
    torch.testing.assert_close(loss, expected_loss, rtol=0.005, atol=0.0)
    torch.testing.assert_close(norm, expected_norm, rtol=0.02, atol=0.0)
    for (name, ours), theirs in zip(models[1].named_parameters(), models[0].parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None and ours.grad.dtype == torch.float32
        assert F.cosine_similarity(ours.grad.flatten(), theirs.grad.flatten(), dim=0) > 0.99, name
    with torch.no_grad():
        torch.testing.assert_close(models[1].loss_sum(x, y), models[0].loss_sum(x, y), rtol=0.005, atol=0.0)
        logits = models[1](x)
    assert logits.dtype == torch.float32 and not torch.equal(logits, models[0](x))


@pytest.mark.parametrize("has_bf16", [onednn_has_bf16(), False])
@pytest.mark.parametrize("rows", [2, 64])
def test_bfloat16_head_equals_its_definition(rows: int, has_bf16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of rounded numbers, everything else in float32; a very unlikely target has a finite loss."""
    monkeypatch.setattr(bf16_head, "onednn_has_bf16", lambda: has_bf16)
    generator = torch.Generator().manual_seed(0)
    h, weight, bias = (torch.randn(*shape, generator=generator) for shape in ((7, 3), (4096, 3), (4096,)))
    weight[9] = 0.0
    bias[9] = -200.0
    targets = torch.tensor([9, 1, -1, 4095, 0, 7, -1])
    ours, theirs = ([leaf.clone().requires_grad_() for leaf in (h, weight, bias)] for _ in range(2))
    loss = head_loss_sum(ours[0], ours[1], ours[2], targets, Kernels("onednn", rows, "bf16"))
    rounded = [leaf.bfloat16().float() for leaf in theirs]
    logits = F.linear(rounded[0], rounded[1], rounded[2]).bfloat16().float()
    expected = F.cross_entropy(logits, targets, ignore_index=-1, reduction="sum")
    torch.testing.assert_close(loss, expected)
    (loss / 5).backward()  # type: ignore[no-untyped-call]
    (expected / 5).backward()  # type: ignore[no-untyped-call]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0.02, atol=0.01)


def test_head_on_a_gpu_waits_for_nothing_and_computes_the_same() -> None:
    logits = 8 * torch.randn(7, 50, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([9, 1, -1, 49, 0, 7, 3])
    logits[3, 49] = -300.0  # Its probability is zero in float32.
    logits[4, 0] = 300.0
    ours, theirs = logits.bfloat16(), logits.bfloat16()
    expected = F.cross_entropy(ours.double(), targets, ignore_index=-1, reduction="none")
    expected_gradient = ours.double().softmax(dim=1)
    expected_gradient -= F.one_hot(targets.clamp(min=0), 50)
    expected_gradient *= (targets >= 0)[:, None]
    with synchronizations() as waits:
        losses = bf16_head.replace_without_reading(ours, targets, -1)
    assert waits == [] and losses.dtype == torch.float32
    torch.testing.assert_close(losses.double(), expected, rtol=1e-6, atol=1e-6)
    assert torch.equal(ours, expected_gradient.float().bfloat16())
    # The same function by blocks, which reads values, as on the CPU.
    with synchronizations() as waits:
        total = bf16_head._loss_and_gradient(theirs, targets, -1, None)
    assert waits and torch.equal(ours, theirs)
    torch.testing.assert_close(losses.sum(), total)


@pytest.mark.parametrize("precision", HALF)
def test_weights_and_moments_stay_in_float32(precision: Precision) -> None:
    checkpoint = last_checkpoint(f"train.precision={precision}")
    assert {tensor.dtype for tensor in checkpoint.model.values()} == {torch.float32}
    assert {tensor.dtype for tensor in checkpoint.optimizer.values()} == {torch.float32}


@pytest.mark.parametrize("precision", HALF)
def test_resume_is_bit_exact(precision: Precision, tmp_path: Path) -> None:
    overrides = (f"train.precision={precision}", "model.dropout=0.3")
    uninterrupted = trainer(*overrides)
    expected = losses(uninterrupted.events())
    first = trainer(*overrides, save=Run(tmp_path).save)
    events = first.events()
    before = list(islice((event.loss for event in events if isinstance(event, ev.StepDone)), 3))
    first.commands.put(cmd.Stop())
    list(events)
    second = trainer(resume=ckpt.load(Run(tmp_path).latest()))
    assert before + losses(second.events()) == expected and same_weights(uninterrupted, second)
    assert second.progress.loss_scale == uninterrupted.progress.loss_scale
    assert expected != losses(trainer("model.dropout=0.3").events())


def test_overflow_in_float16_halves_the_scale_and_repeats_the_step() -> None:
    training = trainer("train.precision=fp16", "train.steps=1")
    hooks = TrainStepHooks(divisor=lambda targets, rows: targets / 64)
    training.hooks = hooks
    [loss] = losses(training.events())
    scale = training.progress.loss_scale
    assert scale is not None and scale.value < FIRST_SCALE and scale.steps == 1
    reference = trainer("train.precision=fp16", "train.steps=1")
    reference.hooks = hooks
    reference.progress = ckpt.Progress(tiny("train.precision=fp16", "train.steps=1"), loss_scale=LossScale(scale.value))
    assert losses(reference.events()) == [loss] and same_weights(training, reference)


def test_fork_in_another_precision_has_its_loss_scale() -> None:
    for before, after in (("fp16", "fp32"), ("fp32", "fp16")):
        checkpoint = last_checkpoint(f"train.precision={before}", "train.steps=2")
        config = tiny(f"train.precision={after}")
        fork = trainer(resume=replace(checkpoint, progress=replace(checkpoint.progress, config=config)))
        assert (fork.progress.loss_scale is None) == (after == "fp32")


def test_scale_grows_after_many_steps_without_overflow() -> None:
    scale = LossScale(2.0, GROWTH_STEPS - 2).after_step()
    assert (scale.value, scale.steps) == (2.0, GROWTH_STEPS - 1)
    assert scale.after_step() == LossScale(4.0, 0)
    assert not LossScale(1.0).should_shrink(0.5, float("inf"))
    assert not LossScale(2.0).should_shrink(float("nan"), float("nan"))
    assert LossScale(2.0).should_shrink(0.5, float("nan"))


@pytest.mark.parametrize("precision", get_args(Precision))
def test_user_model_computes_in_the_precision_of_the_run(precision: Precision) -> None:
    inner = torch.nn.Sequential(torch.nn.Embedding(11, 8), torch.nn.Linear(8, 11))
    computed: list[torch.dtype] = []
    inner[1].register_forward_hook(lambda module, inputs, output: computed.append(output.dtype))
    model = ExternalModel(inner, CONFIG, 11)
    model.precision = precision
    loss = model.loss_sum(torch.zeros(2, 9, dtype=torch.long), torch.ones(2, 9, dtype=torch.long))
    assert computed == [{"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]]
    assert loss.dtype == torch.float32
