"""Can the training learn one small batch by heart, and with which learning rate? Cost: 40 to 200 updates;
where it does not learn, a range test of 30 updates at each of six rates (Smith 2017, coarse)."""

import math
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.loss import shifts_itself
from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject
from tui_lab.core.model import set_dropout

Measure = Callable[[Subject, Tensor, Tensor], float]
UPDATES, RANGE_UPDATES, LONGER = 40, 30, 160
RATES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 1.0)
HARDLY = 5e-3
"""Of what the best rate achieves: below it the rate does nothing. A tenth of a good rate still achieves far more."""
LEARNS = 0.1
"""Of the first loss: a model that can learn two rows loses more than this at some rate."""
FREQUENCIES = 0.9
"""Of the entropy of the two rows' targets: who knows only how frequent each token is stays above."""


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    if not subject.optimizers:
        raise Skip("no optimizer was given")
    shifts = shifts_itself(subject)
    # A loss that shifts the targets itself is the only one that can judge them.
    train = partial(_train, subject, probe, _own_loss if shifts else Subject.reference_loss)
    bar = math.inf if shifts else _bar(subject, probe)
    first, last = train(None, UPDATES)
    if last < (1 - LEARNS) * first and (last < bar or train(None, LONGER)[1] < bar):
        return
    own, after = _rate(subject), _rate_after(subject, probe)
    if after != own:
        raise Skip("the update sets its own learning rate, so that no other can be tried")
    tried = {rate: train(rate, RANGE_UPDATES)[1] for rate in RATES}
    best = min(tried, key=lambda rate: tried[rate] if math.isfinite(tried[rate]) else math.inf)
    gain = first - tried[best]
    table = tuple(f"lr {rate:<8g} loss {first:.3f} → {loss:.3f}" for rate, loss in tried.items())
    if not gain > LEARNS * first:
        yield _cannot(first, tried[best], best, table)
    elif not math.isfinite(last) or last > first + 0.02 * abs(first):
        if best < own:
            yield _wrong_rate("lr_too_high", "high", own, best, first, last, table)
    elif first - last < HARDLY * gain and own < best:
        yield _wrong_rate("lr_too_low", "low", own, best, first, last, table)
    elif not tried[best] < bar and not train(best, LONGER)[1] < bar:
        yield _cannot(first, tried[best], best, table)


def _bar(subject: Subject, probe: Probe) -> float:
    """What a model must get below to have learned more than frequencies; infinite where there is little to learn."""
    targets = probe.y[:2][probe.y[:2] != subject.ignored]
    if len(targets) == 0:
        return math.inf
    share = torch.bincount(targets).double() / len(targets)
    entropy = float(-(share[share > 0] * share[share > 0].log()).sum())
    return FREQUENCIES * entropy if entropy > 0.3 else math.inf


def _rate(subject: Subject) -> float:
    return max(float(group["lr"]) for optimizer in subject.optimizers for group in optimizer.param_groups)


def _rate_after(subject: Subject, probe: Probe) -> float:
    """The learning rate after an update, which a schedule within it may have changed."""
    trial = subject.fresh()
    for _ in range(2):
        trial.update(trial.model, trial.optimizers, probe.x[:2], probe.y[:2])
    return _rate(trial)


def _train(subject: Subject, probe: Probe, measure: Measure, lr: float | None, updates: int) -> tuple[float, float]:
    """The loss on two rows of the probe before and after `updates` without dropout, at `lr` or the training's own."""
    trial = subject.fresh()
    set_dropout(trial.model, 0.0)
    if lr is not None:
        trial.set_lr(lr)
    x, y = probe.x[:2], probe.y[:2]
    first = measure(trial, x, y)
    for step in range(updates):
        torch.manual_seed(trial.seed + step)
        trial.update(trial.model, trial.optimizers, x, y)
    return first, measure(trial, x, y)


def _own_loss(subject: Subject, x: Tensor, y: Tensor) -> float:
    with subject.evaluating():
        return float(subject.loss(x, y).detach())


def _wrong_rate(
    code: str, word: str, own: float, best: float, first: float, last: float, table: tuple[str, ...]
) -> Finding:
    return Finding(
        code,
        f"The learning rate {own:g} is too {word}.",
        f"{UPDATES} updates on two rows move the loss from {first:.3f} to {last:.3f}; {best:g} learns most",
        "Too high a rate jumps over every minimum." if word == "high" else "Too low a rate is no training at all.",
        f"Try {best:g}; halve or double from there.",
        drawing=table,
        proposal={"optim.lr": best},
    )


def _cannot(first: float, last: float, best: float, table: tuple[str, ...]) -> Finding:
    return Finding(
        "cannot_overfit",
        "The model cannot learn two rows by heart, at any learning rate.",
        f"the best of {len(RATES)} rates, {best:g}, moves the loss from {first:.3f} to {last:.3f}",
        "A model that cannot overfit two rows has a fault that no data and no setting will mend.",
        "Look at what lies between the input and the loss: shapes, masks, detached parts, what the targets are.",
        drawing=table,
    )
