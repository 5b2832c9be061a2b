"""Do the optimizer and the GradScaler live longer than one update? Cost: none beyond the record of the loop."""

from collections.abc import Iterator

import torch
from torch.optim import Optimizer

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.reading import require_updates
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.program.target import Target

MIN_REBUILT = 3
SHARE = 0.5
"""Of the updates, that must begin with another optimizer."""


def check(target: Target) -> Iterator[Finding]:
    if target.record is None:
        raise NotApplicable("only the loop of a script can create its optimizer again")
    record = target.record
    if record.moves_by_hand:
        raise NotApplicable("the loop changes its weights by hand, without an optimizer")
    require_updates(record.updates, MIN_REBUILT + 1)
    yield from _rebuilt_scaler(record)
    n = record.n_rebuilt
    forgetful = [optimizer for optimizer in target.optimizers if _has_memory(optimizer)]
    if n < MIN_REBUILT or n < SHARE * len(record.updates) or not forgetful:
        return
    kind = type(forgetful[-1]).__name__
    yield Finding(
        code="optimizer_rebuilt",
        title=f"The loop creates a new {kind} for every update, so what it keeps between steps is lost.",
        evidence=f"{n} of {len(record.updates)} updates step the same weights with another optimizer than the update "
        "before",
        why="Momentum and the moments of Adam start from zero each time: every step is a first step, whose size does "
        "not depend on the gradient's.",
        fix="Create the optimizer once, before the loop. To change a rate, set it in optimizer.param_groups.",
        location=record.rebuilt_at,
    )


def _rebuilt_scaler(record: LoopRecord) -> Iterator[Finding]:
    """Name a GradScaler that is created again, while the optimizer whose steps it makes stays the same."""
    n = record.observed.n_rebuilt_scalers
    n_steps = len(record.updates) + len(record.skipped)
    if n < MIN_REBUILT or n < SHARE * n_steps:
        return
    yield Finding(
        code="scaler_rebuilt",
        title="The loop creates a new GradScaler for every update, so the loss scale never adapts.",
        evidence=f"{n} of {n_steps} steps of the same optimizer are made by another GradScaler than the step before",
        why="A GradScaler lowers its scale after a gradient that is not finite, and raises it after many that are. A "
        "new one begins with the initial scale again: if that is too large, every step is skipped.",
        fix="Create the GradScaler once, before the loop.",
        location=record.observed.scaler_created_at,
    )


def _has_memory(optimizer: Optimizer) -> bool:
    """Return whether an optimizer keeps anything between its steps."""
    is_sgd = isinstance(optimizer, torch.optim.SGD)
    return not is_sgd or any(group.get("momentum") for group in optimizer.param_groups)
