"""Optimizers as they are at the start of a training, with the largest rates that their schedules reach."""

import contextlib
import math
import time
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.script.capture import Capture
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer
from tui_lab.core.watch.variables.script_objects import instances_of

MAX_SCHEDULED = 4000
"""Updates of a schedule that are looked at."""
SECONDS_OF_SCHEDULE = 0.3


def reset_optimizers(optimizers: Sequence[Optimizer], capture: Capture, record: LoopRecord) -> None:
    """Remove the state of the optimizers, and give each group the largest rate that its schedule reaches."""
    for optimizer in optimizers:
        rates = _peak_rates(optimizer, capture, record, alone=len(optimizers) == 1)
        if not capture.initial.has_state:
            optimizer.state.clear()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = torch.tensor(rate) if isinstance(group["lr"], Tensor) else rate
            if "initial_lr" in group:  # A schedule multiplies it, perhaps by factors that are always far below 1.
                group["initial_lr"] = rate
        optimizer.zero_grad()


def for_trials(optimizers: Sequence[Optimizer], model: nn.Module, record: LoopRecord) -> list[Optimizer]:
    """Return the optimizers for trials. What stands for updates by hand changes what these change, at their rates."""
    left_out = {id(p) for name, p in model.named_parameters() if name in record.left_out}
    for optimizer in optimizers:
        if isinstance(optimizer, ManualOptimizer):
            groups = [_without(group, left_out) for group in optimizer.param_groups]
            optimizer.param_groups = [part for group in groups for part in _by_rate(group, record)]
    return list(optimizers)


def _without(group: dict[str, Any], left_out: Collection[int]) -> dict[str, Any]:
    return {**group, "params": [p for p in group["params"] if id(p) not in left_out]}


def _by_rate(group: dict[str, Any], record: LoopRecord) -> list[dict[str, Any]]:
    """Return a group for each rate of the updates by hand; the lowest is for parameters whose rate is not known."""
    rates = {id(p): rate for p, rate in record.rates_by_hand}
    has_several = any(len(update.lrs) > 1 for update in record.updates)
    if not rates or not (has_several or math.isnan(group["lr"])):
        return [group]
    parts: dict[float, list[Tensor]] = {}
    for p in group["params"]:
        parts.setdefault(rates.get(id(p), min(rates.values())), []).append(p)
    return [{**group, "params": parameters, "lr": rate} for rate, parameters in parts.items()]


def _peak_rates(optimizer: Optimizer, capture: Capture, record: LoopRecord, *, alone: bool) -> list[float]:
    """Return for each parameter group the largest learning rate of its schedule, as far as that is known."""
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    before = next((groups for other, groups in capture.initial.groups if other is optimizer), None)
    if before is not None and len(before) == len(rates):
        rates = [max(rate, float(group["lr"])) for rate, group in zip(rates, before, strict=True)]
    n = len(rates)
    recorded = [update.lrs for update in record.updates if alone and len(update.lrs) == n]
    for lrs in recorded:
        rates = [max(rate, lr) for rate, lr in zip(rates, lrs, strict=True)]
    scheduled = _scheduled_rates(optimizer)
    if scheduled is not None:
        return [max(rate, lr) for rate, lr in zip(rates, scheduled, strict=True)]
    default = optimizer.defaults.get("lr")
    rises = len(recorded) > 1 and recorded[-1][0] > recorded[0][0]
    if rises and len(set(rates)) == 1 and isinstance(default, float) and default > rates[0]:
        return [default] * n  # A loop that sets lr itself, and has not come to the end of its warmup.
    return rates


def _scheduled_rates(optimizer: Optimizer, updates: int = MAX_SCHEDULED) -> list[float] | None:
    """Return the largest rates that the optimizer's scheduler reaches in its next updates; None without one.

    The scheduler itself is run on: the script has ended.
    """
    own_schedulers = [
        s
        for s in instances_of(LRScheduler)
        if getattr(s, "optimizer", None) is optimizer and not isinstance(s, ReduceLROnPlateau)
    ]
    # SequentialLR and ChainedScheduler have others inside.
    inner = {id(part) for s in own_schedulers for part in getattr(s, "_schedulers", ())}
    scheduler = next((s for s in own_schedulers if id(s) not in inner), None)
    if scheduler is None:
        return None
    before = [float(group["lr"]) for group in optimizer.param_groups]
    largest = before
    until = time.monotonic() + SECONDS_OF_SCHEDULE
    with contextlib.suppress(Exception):  # OneCycleLR ends with an error.
        for _ in range(updates):
            scheduler.step()
            rates = [float(group["lr"]) for group in optimizer.param_groups]
            largest = [max(pair) for pair in zip(largest, rates, strict=True)]
            if time.monotonic() > until:
                break
    return largest
