"""The course of a loop's losses: infinite ones, ones that stay, ones without a bound, and optimizers created again."""

import contextlib
import functools
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.doctor.checks.training import (
    loop_gradients,
    loss_progress,
    loss_values,
    optimizer_rebuilt,
    optimizer_step,
    overfit,
)
from tui_lab.core.doctor.checks.training.loss_progress import Trial
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.loss_course import loss_courses
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import PAIRS

Batches = Callable[[int], tuple[Tensor, Tensor]]
Losses = Callable[[nn.Module, tuple[Tensor, Tensor], int], Tensor]
STEPS = 40
PLATEAU = 120
"""Steps after which a loss that rests at that of a constant prediction is mentioned, and enough to try lower rates."""
LATER = 1
"""The number of a step that the checks repeat: what some loops do before their first step is not part of it."""


def learnable(step: int) -> tuple[Tensor, Tensor]:
    x = torch.randn(32, 8, generator=torch.Generator().manual_seed(step))
    return x, x[:, :4].argmax(1)


def unrelated(step: int) -> tuple[Tensor, Tensor]:
    return learnable(step)[0], learnable(step + 1000)[1]


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def infinite(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    return cross_entropy(model, batch, step) * torch.inf


def nan_at_20(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    return cross_entropy(model, batch, step) * (torch.nan if step == 20 else 1.0)


def infinite_once(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    return cross_entropy(model, batch, step) + (torch.inf if step == 20 else 0.0)


def wrong_sign(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    output: Tensor = model(batch[0])
    return cross_entropy(model, batch, step) - 0.01 * output.square().sum()


def policy(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    """As in reinforcement learning: act on ten batches, then learn from their rewards, which no action changes."""
    if step % 10 == 0:
        with torch.no_grad():
            for number in range(step, step + 10):
                model(learnable(number)[0])
    rewards = unrelated(step)[1] - 1.5
    chosen = model(batch[0]).log_softmax(1)[:, 0]
    loss: Tensor = 5 - (chosen * rewards).mean()
    return loss


def own_reference(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    """As preference optimization (DPO) whose reference is the policy itself."""
    chosen = cross_entropy(model, batch, step)
    with torch.no_grad():
        reference = cross_entropy(model, batch, step)
    return -F.logsigmoid(chosen - reference)


Weights = dict[str, Tensor]


@functools.cache
def recorded(
    batches: Batches, losses: Losses, lr: float, steps: int, *, rebuilds: bool
) -> tuple[nn.Module, Weights, LoopRecorder]:
    """Record a small loop. Return its model, the weights that it began with, and the recorder."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))
    start = {name: value.clone() for name, value in model.state_dict().items()}
    with LoopRecorder() as recorder:
        optimizer = torch.optim.AdamW(model.parameters(), lr)
        for step in range(steps):
            if rebuilds:
                optimizer = torch.optim.AdamW(model.parameters(), lr)
            optimizer.zero_grad()
            losses(model, batches(step), step).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return model, start, recorder


def trained(
    batches: Batches = learnable,
    losses: Losses = cross_entropy,
    lr: float = 1e-2,
    steps: int = STEPS,
    *,
    rebuilds: bool = False,
) -> Target:
    """Return the target of a small loop, with the weights that it began with. Equal loops are recorded once."""
    model, start, recorder = recorded(batches, losses, lr, steps, rebuilds=rebuilds)
    torch.manual_seed(0)
    model.load_state_dict(start)
    for each in recorder.optimizers:
        each.state.clear()
    return _target(model, recorder, batches, losses)


def _target(model: nn.Module, recorder: LoopRecorder, batches: Batches, losses: Losses) -> Target:
    def update(model: nn.Module, optimizers: object, batch: tuple[Tensor, Tensor]) -> None:
        for optimizer in optimizers:  # type: ignore[attr-defined]
            optimizer.zero_grad()
        losses(model, batch, LATER).backward()  # type: ignore[no-untyped-call]
        for optimizer in optimizers:  # type: ignore[attr-defined]
            optimizer.step()

    return Target(
        model=model,
        optimizers=recorder.optimizers,
        batch=batches,
        forward=lambda model, batch: model(batch[0]),
        loss_function=lambda model, batch: losses(model, batch, LATER),
        update=update,
        ignored=-100,
        tokens=None,
        record=recorder.record(),
    )


def found(target: Target) -> list[Finding]:
    findings: list[Finding] = []
    with contextlib.suppress(NotJudged):  # Later losses that are not finite are left to the other check.
        findings.extend(loss_values.check(target))
    return [*findings, *loss_progress.check(target)]


def test_loss_that_falls_is_no_finding() -> None:
    target = trained()
    assert not found(target)
    (course,) = loss_courses(target.loop)
    assert len(course.values) == STEPS
    assert course.first > course.last
    assert "test_loss_progress.py:" in course.line


@pytest.mark.parametrize("lr", [1.0, pytest.param(10.0, marks=pytest.mark.slow)])
def test_rate_at_which_the_loss_stays_is_too_high_if_lower_rates_learn(lr: float) -> None:
    (finding,) = found(trained(lr=lr, steps=PLATEAU))
    assert (finding.code, finding.kind) == ("lr_too_high", "finding")
    assert finding.proposal["optim.lr"] < lr


@pytest.mark.parametrize("stays", [False, True])
def test_rates_that_there_is_no_time_to_try_are_said(stays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a slow machine a loss that rises is not judged, and never passed."""
    monkeypatch.setattr(loss_progress, "TRIAL_SECONDS", 0.0)
    monkeypatch.setattr(loss_progress, "_stays", lambda course: stays)
    monkeypatch.setattr(loss_progress, "_constant_level", lambda course, record: None)
    monkeypatch.setattr(loss_progress, "_is_above_start", lambda course: True)
    target = trained(lr=1.0, steps=PLATEAU)
    if stays:
        (finding,) = found(target)
        assert finding.code == "loss_not_falling" and "CPU time" in finding.evidence
    else:
        with pytest.raises(NotJudged, match="CPU time"):
            found(target)


def test_targets_unrelated_to_the_inputs_are_a_hint() -> None:
    (finding,) = found(trained(unrelated, lr=1e-3, steps=PLATEAU))
    assert (finding.code, finding.kind) == ("loss_not_falling", "hint")


def test_plateau_of_a_language_model_is_a_hint_if_only_lower_rates_learn_by_heart() -> None:
    (finding,) = found(replace(trained(unrelated, lr=1.0, steps=PLATEAU), tokens=PAIRS))
    assert (finding.code, finding.kind) == ("loss_not_falling", "hint")


def trials(*losses: tuple[float, float]) -> list[Trial]:
    """Return trials with these losses of the repeated and of other batches, the loop's own rate first."""
    return [Trial(0.1**number, 50, loss, other) for number, (loss, other) in enumerate(losses)]


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        # Measured in a script of the Trainer of transformers, whose rate was 100 times that of its healthy twin.
        ([(4.795, 6.077), (1.090, 7.268), (3.770, 5.189), (6.329, 6.533)], 0.01),
        ([(4.795, 6.077), (1.090, 7.268), (4.1, 5.189), (6.329, 6.533)], 0.01),
        # Nothing but by heart, nothing by heart, other batches that are no better than a constant prediction.
        ([(5.3, 5.2), (2.8, 7.0), (4.8, 5.8), (6.4, 6.6)], None),
        ([(5.3, 5.9), (5.2, 5.9), (4.8, 5.2), (6.4, 6.6)], None),
        ([(5.300, 5.948), (2.768, 6.175), (4.785, 5.642), (6.458, 6.607)], None),
    ],
)
def test_rate_of_a_language_model_is_too_high_if_lower_ones_learn(
    losses: list[tuple[float, float]], expected: float | None
) -> None:
    better = loss_progress._better(trials(*losses), replace(trained(), tokens=PAIRS), 5.5)
    assert (better and better.lr) == (expected and pytest.approx(expected))


def test_targets_that_a_lower_rate_only_learns_by_heart_do_not_blame_the_rate() -> None:
    (finding,) = found(trained(unrelated, lr=1.0, steps=PLATEAU))
    assert (finding.code, finding.kind) == ("loss_not_falling", "hint")


@pytest.mark.parametrize(("losses", "first"), [(infinite, 1), (nan_at_20, 21)])
def test_loss_that_is_not_finite_is_a_finding_with_its_first_update(losses: Losses, first: int) -> None:
    finding = found(trained(losses=losses))[0]
    assert (finding.code, finding.kind) == ("loss_not_finite", "finding")
    assert f"at update {first}" in finding.evidence
    assert finding.location


def rising(target: Target) -> Target:
    """Return the target with a rate that rises in each recorded update."""
    updates = tuple(replace(update, lrs=(1e-4 * (update.number + 1),)) for update in target.loop.updates)
    return replace(target, record=replace(target.loop, updates=updates))


def test_loss_that_becomes_nan_is_a_finding_whatever_else_prevents_a_judgment() -> None:
    with pytest.raises(NotJudged):
        list(loss_progress.check(rising(trained())))
    (finding,) = loss_progress.check(rising(trained(losses=nan_at_20)))
    assert finding.code == "loss_not_finite"


def test_checks_that_saw_values_that_are_not_finite_have_not_passed() -> None:
    healthy = trained()
    broken = trained(losses=nan_at_20)
    for check in (loss_values.check, loop_gradients.check, optimizer_step.check):
        assert not list(check(healthy))
        with pytest.raises(NotJudged, match="from update 21 on"):
            list(check(broken))


def test_loss_of_a_policy_need_not_fall() -> None:
    target = trained(losses=policy)
    for check in (loss_progress.check, overfit.check):
        with pytest.raises(NotApplicable):
            list(check(target))


def value_learning(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    """As Q-learning on new steps: act on ten batches, then learn values that grow with the updates."""
    if step % 10 == 0:
        with torch.no_grad():
            for number in range(step, step + 10):
                model(learnable(number)[0])
    targets = torch.randn(32, 4, generator=torch.Generator().manual_seed(step)) * (1 + step / 30)
    return F.mse_loss(model(batch[0]), targets)


def evaluated_once(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
    """All rows are evaluated before the training, whose targets are random."""
    if step == 0:
        with torch.no_grad():
            for number in range(PLATEAU):
                model(learnable(number)[0])
    return F.cross_entropy(model(batch[0]), unrelated(step)[1])


def test_values_of_rows_that_the_model_acted_on_need_not_fall() -> None:
    with pytest.raises(NotApplicable):
        list(loss_progress.check(trained(losses=value_learning, lr=1e-3)))


def test_loss_of_rows_that_were_evaluated_before_the_training_has_to_fall() -> None:
    (finding,) = found(trained(losses=evaluated_once, lr=1e-3, steps=PLATEAU))
    assert (finding.code, finding.kind) == ("loss_not_falling", "hint")


def test_single_infinite_loss_is_no_finding() -> None:
    assert not found(trained(losses=infinite_once))


def test_loss_that_is_one_number_for_all_batches_is_a_hint_of_a_trained_model_too() -> None:
    (finding,) = loss_progress.check(replace(trained(losses=own_reference), untrained=False))
    assert (finding.code, finding.kind) == ("loss_not_falling", "hint")
    assert finding.location


def test_targets_unrelated_to_the_inputs_are_a_hint_of_a_trained_model_too() -> None:
    target = replace(trained(unrelated, lr=1e-3, steps=PLATEAU), untrained=False)
    (finding,) = loss_progress.check(target)
    assert (finding.code, finding.kind) == ("loss_not_falling", "hint")
    few = replace(target, record=replace(target.loop, updates=target.loop.updates[:50]))
    with pytest.raises(NotJudged):
        list(loss_progress.check(few))


def test_loss_of_a_trained_model_need_not_fall_from_a_low_one() -> None:
    def low(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        known = 5 * F.one_hot(batch[1], 4)
        return F.cross_entropy(model(batch[0]) * 1e-3 + known, batch[1])

    with pytest.raises(NotApplicable):
        list(loss_progress.check(replace(trained(losses=low), untrained=False)))


def test_loss_that_has_nothing_left_to_learn_is_no_finding() -> None:
    def zero(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        return cross_entropy(model, batch, step) * 0

    assert not list(loss_progress.check(trained(losses=zero)))


def test_loss_without_a_bound_is_a_hint() -> None:
    (finding,) = found(trained(losses=wrong_sign))
    assert (finding.code, finding.kind) == ("loss_unbounded", "hint")


def test_losses_that_are_trained_in_turns_are_not_judged() -> None:
    def in_turns(model: nn.Module, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        if step % 2:
            (-cross_entropy(model, batch, step)).backward()  # type: ignore[no-untyped-call]
        return cross_entropy(model, batch, step)

    with pytest.raises(NotApplicable):
        found(trained(losses=in_turns))


def test_optimizer_of_every_update_is_a_finding() -> None:
    target = trained(rebuilds=True)
    assert [finding.code for finding in optimizer_rebuilt.check(target)] == ["optimizer_rebuilt"]
    assert len(target.optimizers) == 1


def test_optimizer_that_lives_on_is_no_finding() -> None:
    assert not list(optimizer_rebuilt.check(trained()))
