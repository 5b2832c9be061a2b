"""Run a small training loop under the recorder, and return what the checks of the loop say about its record."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from tests.core.watch.loops import batch, start
from tui_lab.core.doctor.checks.data import loop_rows
from tui_lab.core.doctor.checks.training import (
    gradient_reset,
    loop_gradients,
    loop_modes,
    loop_rates,
    lost_updates,
    optimizer_parameters,
    optimizer_step,
)
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.recorder import LoopRecorder
from tui_lab.core.doctor.program.target import Target

CHECKS: tuple[Any, ...] = (
    optimizer_parameters,
    optimizer_step,
    gradient_reset,
    loop_gradients,
    lost_updates,
    loop_modes,
    loop_rates,
    loop_rows,
)


def target_of(loop: Callable[[], object], *, untrained: bool = True) -> Target:
    """Run `loop` under the recorder, and return a target with its record."""
    with LoopRecorder() as recorder:
        loop()
    record = recorder.record(has_ended=True)
    model = recorder.model
    assert model is not None

    def no_update(*_: object) -> None:
        raise AssertionError("a check called the update although there is a record")

    return Target(
        model=model,
        optimizers=recorder.optimizers or recorder.created_optimizers,
        batch=batch,
        forward=lambda model, batch: model(batch[0]),
        loss_function=None,
        update=no_update,
        ignored=-100,
        record=record,
        untrained=untrained,
    )


def judged(loop: Callable[[], object], *, untrained: bool = True) -> list[Finding]:
    """Return all findings and hints on the record of `loop`."""
    target = target_of(loop, untrained=untrained)
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check.check(target)
        except (NotJudged, NotApplicable):
            continue
    return findings


def codes(findings: list[Finding]) -> list[str]:
    """Return the codes of the findings, without hints and without consequences of others."""
    consequences = {code for finding in findings for code in finding.explains}
    return [f.code for f in findings if f.kind == "finding" and f.code not in consequences]


def loss_of(model: nn.Module, step: int, rows: int = 4) -> torch.Tensor:
    """Return the mean loss of the batch of a step."""
    x, y = batch(step, rows)
    return F.cross_entropy(model(x)[0].flatten(0, 1), y.flatten())


def sgd(lr: float = 0.1, **more: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a new model in training mode and its optimizer."""
    model = start()
    return model, torch.optim.SGD(model.parameters(), lr=lr, **more)
