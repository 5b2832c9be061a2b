"""Scripts that change their weights without a torch optimizer are recorded, with the rate of plain gradient descent."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.watch import loops
from tests.core.watch.loops import STEPS, T, TinyModel, V, batch, start
from tests.core.watch.test_recorder import changes_of, events_of, recording, steps_of
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.script import NO_OPTIMIZER, ScriptConfig
from tui_lab.core.watch.optimizer import updates_by_hand
from tui_lab.core.watch.optimizer.updates_by_hand import MAX_IDLE
from tui_lab.core.watch.steering.steering import StopRequested

LR = 0.25


@pytest.fixture(autouse=True)
def _no_optimizers_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(updates_by_hand, "_has_optimizer", lambda: False)
    yield


def descend(model: TinyModel, *, max_norm: float | None = None) -> list[float]:
    """Train by hand; return the losses."""
    losses = []
    for step in range(STEPS):
        loss = model(*batch(step))[1]
        model.zero_grad()
        loss.backward()
        if max_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), max_norm)
        for p in model.parameters():
            assert p.grad is not None
            p.data.add_(p.grad, alpha=-LR)
        losses.append(float(loss.detach()))
    return losses


@pytest.mark.parametrize("max_norm", [None, 0.1])
def test_each_update_is_a_step_with_its_loss_and_rate(max_norm: float | None, tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        losses = descend(start(), max_norm=max_norm)
    steps = steps_of(record)
    assert [step.loss for step in steps] == pytest.approx(losses)
    assert [step.lr for step in steps] == [LR] * STEPS
    assert steps[-1].tokens == 4 * T * STEPS
    started = next(event for event in events_of(record) if isinstance(event, ev.Started))
    config = record.run.config()
    assert isinstance(config, ScriptConfig) and config.model.name == "TinyModel" and started.n_vocab == V
    assert losses == descend(start(), max_norm=max_norm), "recording changes nothing"


def test_micro_batches_are_one_step(tmp_path: Path) -> None:
    model = start()
    with recording(tmp_path) as record:
        for step in range(STEPS):
            torch.autograd.backward(model(*batch(step))[1] / 2)
            if step % 2:
                for p in model.parameters():
                    assert p.grad is not None
                    p.data -= LR * p.grad
                    p.grad = None
    assert len(steps_of(record)) == STEPS // 2


def test_momentum_by_hand_has_no_rate(tmp_path: Path) -> None:
    model = start()
    velocity = [torch.zeros_like(p) for p in model.parameters()]
    with recording(tmp_path) as record:
        for step in range(STEPS):
            model.zero_grad()
            torch.autograd.backward(model(*batch(step))[1])
            for p, v in zip(model.parameters(), velocity, strict=True):
                assert p.grad is not None
                v.mul_(0.9).add_(p.grad)
                p.data.add_(v, alpha=-LR)
    rates = [step.lr for step in steps_of(record)]
    assert rates[0] == LR and len(rates) == STEPS and all(math.isnan(rate) for rate in rates[1:])


def test_rate_that_the_first_update_does_not_tell_is_no_setting(tmp_path: Path) -> None:
    model = start()
    with recording(tmp_path) as record:
        for step in range(STEPS):
            torch.autograd.backward(model(*batch(step))[1])
            for p in model.parameters():
                assert p.grad is not None
                p.data.sub_(p.grad.sign(), alpha=LR)
    config = record.run.config()
    assert steps_of(record) and isinstance(config, ScriptConfig)
    assert config.optim.is_by_hand and config.optim.lr is None


Step = Callable[[Tensor, Tensor], Tensor]


def new_tensors(step: Step, *, data: Callable[[int], Tensor] = lambda step: batch_of_numbers(step)) -> list[float]:
    """Fit a line, putting new weights in the place of the old ones; return the losses."""
    w, b = torch.zeros(3, requires_grad=True), torch.zeros((), requires_grad=True)
    losses = []
    for n in range(STEPS):
        x = data(n)
        loss = F.mse_loss(x @ w + b, x.sum(1))
        torch.autograd.backward(loss)
        assert w.grad is not None and b.grad is not None
        w = step(w, w.grad).detach().requires_grad_()
        b = step(b, b.grad).detach().requires_grad_()
        losses.append(float(loss.detach()))
    return losses


def batch_of_numbers(step: int) -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(step))


def test_new_tensors_in_the_place_of_weights_are_steps(tmp_path: Path) -> None:
    def descent(weight: Tensor, gradient: Tensor) -> Tensor:
        return weight - LR * gradient

    with recording(tmp_path) as record:
        losses = new_tensors(descent)
    steps = steps_of(record)
    # The update after the last loss is seen by nothing.
    assert [step.loss for step in steps] == pytest.approx(losses[:-1])
    assert {step.lr for step in steps} == {LR} and not any("micro_batches" in (step.extra or {}) for step in steps)


def test_new_tensors_with_nan_are_steps_at_the_rate_before(tmp_path: Path) -> None:
    def broken(step: int) -> Tensor:
        return batch_of_numbers(step) * (torch.nan if step == 3 else 1.0)

    with recording(tmp_path) as record:
        losses = new_tensors(lambda weight, gradient: weight - LR * gradient, data=broken)
    steps = steps_of(record)
    assert len(steps) >= len(losses) - 1 and {step.lr for step in steps} == {LR}  # No gap after the first NaN.


@pytest.mark.parametrize(
    "step",
    [
        lambda x, gradient: x + LR * gradient,
        lambda x, gradient: x - LR * gradient.sign(),
        lambda x, gradient: torch.randn(x.shape),
        lambda x, gradient: x.clone(),
    ],
    ids=["ascent", "sign", "random", "same"],
)
def test_other_new_tensors_are_no_steps(step: Step, tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        new_tensors(step)
    assert not steps_of(record)


def test_inputs_with_gradients_are_no_weights(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        new_tensors(lambda w, gradient: w, data=lambda step: batch_of_numbers(step).requires_grad_())
    assert not steps_of(record)


def test_another_model_is_followed_after_a_while(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        descend(start())
        model = nn.Linear(3, 2)
        for step in range(2 * updates_by_hand.MAX_WITHOUT_UPDATE):
            torch.autograd.backward(F.mse_loss(model(batch_of_numbers(step)), torch.zeros(5, 2)))
            for p in model.parameters():
                assert p.grad is not None
                p.data -= LR * p.grad
                p.grad = None
    assert len(steps_of(record)) > STEPS


@pytest.mark.parametrize("change", [cmd.Scale("optim.lr_factor", 0.5), cmd.Set("optim.grad_clip", 2.0)])
def test_what_the_script_does_by_hand_cannot_be_changed(change: cmd.Command, tmp_path: Path) -> None:
    with recording(tmp_path, change) as record:
        descend(start(), max_norm=1.0)
    warnings = [event.message for event in events_of(record) if isinstance(event, ev.Warned)]
    assert len(warnings) == 1 and NO_OPTIMIZER in warnings[0] and not changes_of(record)
    assert script.live_keys(record.run.config()) == ["model.dropout"]


def test_backward_pass_before_an_optimizer_is_no_step(tmp_path: Path) -> None:
    with recording(tmp_path) as record:
        torch.autograd.backward(start()(*batch(0))[1])
        losses = loops.plain().losses
    assert len(steps_of(record)) == len(losses)


def test_loop_whose_rate_became_too_small_can_still_be_stopped(tmp_path: Path) -> None:
    model = start()
    with recording(tmp_path) as record, pytest.raises(StopRequested):
        for step in range(10 * MAX_IDLE):
            if step == STEPS:
                record.boundary.control.commands.put(cmd.Stop())
            model.zero_grad()
            torch.autograd.backward(model(*batch(step))[1])
            for p in model.parameters():
                assert p.grad is not None
                p.data.add_(p.grad, alpha=-LR if step < STEPS - 1 else -1e-30)
    steps = steps_of(record)
    assert [step.lr for step in steps[: STEPS - 1]] == [LR] * (STEPS - 1) and steps[-1].lr == 0
