"""Loops with a GradScaler: mixed precision as in torch's recipes, and steps that it skips for good."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.core.doctor.loop.judged import codes, judged, loss_of, sgd, target_of
from tui_lab.core.doctor.checks.training import loop_gradients, loss_values, optimizer_rebuilt
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.record import LoopRecord

STEPS = 30
Loss = Callable[[nn.Module, int], Tensor]
Loop = Callable[[], object]


def scaled(loss: Loss = loss_of, *, parts: int = 1, scale: float = 2.0**10, steps: int = STEPS) -> Loop:
    """Train in float16 with clipping, as torch's recipe for automatic mixed precision does."""

    def loop() -> None:
        model, optimizer = sgd()
        scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        for step in range(steps):
            optimizer.zero_grad()
            for part in range(parts):
                with torch.autocast("cpu", torch.float16):
                    of_part = loss(model, parts * step + part) / parts
                torch.autograd.backward(scaler.scale(of_part))
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()

    return loop


def nan_from(first: int, last: int = STEPS) -> Loss:
    return lambda model, step: loss_of(model, step) * (math.nan if first <= step < last else 1.0)


def infinite_gradient(model: nn.Module, step: int) -> Tensor:
    """The square root of zero has an infinite gradient, whatever the scale."""
    zeros = model.get_parameter("head.bias")[:1] * 0.0
    return loss_of(model, step) + zeros.sqrt().sum()


def found(loop: Loop) -> tuple[list[Finding], LoopRecord]:
    """Return the findings of the checks that look at losses and gradients, and the record."""
    target = target_of(loop)
    findings: list[Finding] = []
    for check in (loop_gradients, loss_values):
        try:
            findings += check.check(target)
        except (NotApplicable, NotJudged):
            continue
    return findings, target.loop


@pytest.mark.parametrize("parts", [1, 2])
def test_mixed_precision_is_healthy(parts: int) -> None:
    assert judged(scaled(parts=parts, steps=12)) == []


@pytest.mark.parametrize("first", [0, 4])
def test_loss_that_stays_nan_is_found_although_its_steps_are_skipped(first: int) -> None:
    findings, record = found(scaled(nan_from(first)))
    assert codes(findings) == ["loss_not_finite"] and "test_grad_scaler.py:" in findings[0].location
    assert len(record.updates) == first and len(record.skipped_last) == STEPS - first


def test_gradient_that_is_infinite_at_any_scale_is_found() -> None:
    findings, record = found(scaled(infinite_gradient))
    assert codes(findings) == ["gradient_not_finite"] and not record.updates
    assert record.skipped[-1].loss_scale <= 1 and all(map(math.isfinite, record.skipped[-1].losses))


def overflows(model: nn.Module, step: int) -> Tensor:
    return 1e3 * F.relu(loss_of(model, step))


@pytest.mark.parametrize(
    ("loop", "n_skipped"),
    [(scaled(nan_from(4, 6)), 2), (scaled(nan_from(28)), 2), (scaled(overflows, scale=2.0**122, steps=12), None)],
    ids=["two batches", "the last two", "a scale that is too large at first"],
)
def test_steps_that_are_skipped_now_and_then_are_healthy(loop: Loop, n_skipped: int | None) -> None:
    findings, record = found(loop)
    assert codes(findings) == [] and len(record.skipped) == (n_skipped or len(record.skipped)) > 0


def second_loss(how: str) -> Loop:
    """Train on two losses of the same weights. how: what happens to the second one, which is a mean of squares."""

    def loop() -> None:
        model, optimizer = sgd()
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
        for step in range(6):
            optimizer.zero_grad()
            first, second = loss_of(model, step), model.get_parameter("head.weight").pow(2).mean()
            scaled_first = scaler.scale(first)
            if how == "cleared":
                torch.autograd.backward(second)
                optimizer.zero_grad()
            scaled_second = second if how == "unscaled" else scaler.scale(second)
            if how == "sum":
                torch.autograd.backward(scaled_first + scaled_second)
            elif how != "cleared":
                torch.autograd.backward(scaled_second)
            if how != "sum":
                torch.autograd.backward(scaled_first)
            scaler.unscale_(optimizer)
            if how == "after unscale_":
                torch.autograd.backward(model.get_parameter("head.weight").abs().mean())
            scaler.step(optimizer)
            scaler.update()

    return loop


def test_second_loss_without_the_scale_is_found_at_its_line() -> None:
    (finding,) = judged(second_loss("unscaled"))
    assert (finding.code, finding.kind) == ("loss_not_scaled", "finding")
    line = int(finding.location.rpartition(":")[2])
    assert "backward(scaled_second)" in Path(__file__).read_text("utf-8").splitlines()[line - 1]


@pytest.mark.parametrize("how", ["scaled", "sum", "cleared", "after unscale_"])
def test_losses_that_all_carry_the_scale_are_healthy(how: str) -> None:
    assert codes(judged(second_loss(how))) == []


def with_scalers(n_scalers: int) -> Loop:
    """Make the steps with `n_scalers` different GradScalers, one after the other."""

    def loop() -> None:
        model, optimizer = sgd()
        for step in range(8):
            if step % (8 // n_scalers) == 0:
                scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
            optimizer.zero_grad()
            torch.autograd.backward(scaler.scale(loss_of(model, step)))
            scaler.step(optimizer)
            scaler.update()

    return loop


@pytest.mark.parametrize(("n_scalers", "expected"), [(8, ["scaler_rebuilt"]), (2, []), (1, [])])
def test_scaler_of_every_update_is_found(n_scalers: int, expected: list[str]) -> None:
    findings = list(optimizer_rebuilt.check(target_of(with_scalers(n_scalers))))
    assert [finding.code for finding in findings] == expected
    assert all("test_grad_scaler.py:" in finding.location for finding in findings)
