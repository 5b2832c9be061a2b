"""Can the model memorize one small batch, and at which learning rate?

Cost: 40 to 200 updates; if it does not learn, a range test of 30 updates at each of six rates (Smith 2017, coarse). For
updates by hand, and where weights are frozen, up to 320 more, with Adam.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Literal

import torch

from tui_lab.core.doctor.findings import Finding, Kind, NotJudged
from tui_lab.core.doctor.loop.reading import require_given_data
from tui_lab.core.doctor.measures.batch_statistics import batch_statistics
from tui_lab.core.doctor.measures.free_outputs import lowest_loss
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.measures.trained_targets import leaves_out_targets, shifted, trained_targets
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.target import Target, mean_cross_entropy, required, targets_of, trial_rows
from tui_lab.core.doctor.program.target_rules import UNKNOWN
from tui_lab.core.training.optim_without_dynamo import Adam

Measure = Callable[[Target, Batch], float]
ROWS = 2
UPDATES = 40
RANGE_UPDATES = 30
LONG_UPDATES = 160
ADAM_RATES = (1e-2, 1e-3)
RATES = (1e-4, 1e-3, 1e-2, 3e-2, 1e-1, 1.0)
MIN_GAIN = 5e-3
"""Fraction of what the best rate achieves below which a rate does nothing. A tenth of a good rate achieves far more."""
MAX_CPU_SECONDS = 20.0
"""For the first series of updates. The range test takes up to nine times as long."""
ZERO_LOSS = 1e-3
"""Size of a first loss that leaves nothing to learn."""
MIN_RISE = 0.02
"""Fraction of the first loss."""
MIN_FALL = 0.1
"""Fraction of the first loss that a model which can memorize two rows loses at some rate."""
FEW_TRAINED = "only a part of the weights is trained, which may be too little: with all of them, rows are memorized"
NO_MINIMUM = "the loss takes negative values, so its lowest value is unknown"
REACHED = 0.5
"""Of the fall that free outputs reach, what a model that can memorize two rows reaches of it at some rate."""
FREQUENCIES = 0.9
"""Fraction of the entropy of the two rows' targets: a model that knows only token frequencies stays above."""


def check(target: Target) -> Iterator[Finding]:
    target.require_optimizers()
    measure, bar = _measure(target)
    train = partial(_train, target, measure)
    first, last = train(None, UPDATES)
    learns = first - last > MIN_FALL * abs(first)
    if learns and (last < bar or train(None, LONG_UPDATES)[1] < bar):
        return
    if abs(first) < ZERO_LOSS:
        return
    is_by_hand = target.record is not None and target.record.moves_by_hand
    if is_by_hand and learns and _memorizes_with_adam(target, measure, bar):
        return
    for finding in _compare_rates(target, measure, bar, first, last):
        if finding.code == "cannot_overfit" and _memorizes_unfrozen(target, measure, bar):
            raise NotJudged(FEW_TRAINED)
        may_be_slow = finding.code == "cannot_overfit" and is_by_hand and not learns
        if not may_be_slow or not _memorizes_with_adam(target, measure, bar):
            yield finding


def _memorizes_with_adam(target: Target, measure: Measure, bar: float) -> bool:
    """Return whether Adam memorizes two rows, for which plain gradient descent may take too many updates."""
    weights = [p for optimizer in target.optimizers for group in optimizer.param_groups for p in group["params"]]
    with_adam = replace(target, optimizers=[Adam(weights)])
    for rate in ADAM_RATES:
        first, last = _train(with_adam, measure, rate, LONG_UPDATES)
        if first - last > MIN_FALL * abs(first) and last < bar:
            return True
    return False


def _memorizes_unfrozen(target: Target, measure: Measure, bar: float) -> bool:
    """Return whether some weights are frozen, and the rows are memorized where all of them are trained.

    Adapters of low rank, or a new head alone, may be too small to memorize rows.
    """
    frozen = [p for p in target.model.parameters() if not p.requires_grad and p.is_floating_point()]
    for p in frozen:
        p.requires_grad = True
    try:
        whole = replace(target, optimizers=[Adam(list(target.model.parameters()))])
        return bool(frozen) and _memorizes_with_adam(whole, measure, bar)
    finally:
        for p in frozen:
            p.requires_grad = False


def _compare_rates(target: Target, measure: Measure, bar: float, first: float, last: float) -> Iterator[Finding]:
    """Say what other learning rates do for two rows. first, last: the losses of `UPDATES` at the run's own rate."""
    train = partial(_train, target, measure)
    lr = _rate(target)
    if not math.isclose(_rate_after_updates(target), lr):
        raise NotJudged("the update sets its own learning rate, so no other rate can be tried")
    losses = {rate: _last_or_infinite(train, rate) for rate in RATES}
    best = min(losses, key=lambda rate: losses[rate] if math.isfinite(losses[rate]) else math.inf)
    gain = first - losses[best]
    table = tuple(f"lr {rate:<8g} loss {first:.3f} → {loss:.3f}" for rate, loss in losses.items())
    if not gain > MIN_FALL * abs(first):
        if fall := _fall_in_loop(target):
            raise NotJudged(f"the loop's own loss falls from {fall[0]:.3g} to {fall[1]:.3g}, but not in trials")
        lowest = _require_possible_fall(target, first, losses[best])
        kind: Kind = "finding" if target.tokens or lowest is not None else "hint"
        yield _cannot_overfit(target, kind, first, losses[best], best, table)
    elif losses[best] < 0 and bar == math.inf:
        raise NotJudged(NO_MINIMUM)  # At a high rate, a loss without a bound, as of a policy, falls forever.
    elif not math.isfinite(last) or last > first + MIN_RISE * abs(first):
        if any(loss > first + MIN_RISE * abs(first) for rate, loss in losses.items() if rate < best):
            raise NotJudged(
                f"lower rates than {best:g} raise the loss of these rows, too, so it is not the rate's size"
            )
        if best < lr:
            yield _wrong_rate(target, "lr_too_high", lr, best, first, last, table)
    elif first - last < MIN_GAIN * gain and lr < best:
        yield _wrong_rate(target, "lr_too_low", lr, best, first, last, table)
    elif not losses[best] < bar and not train(best, LONG_UPDATES)[1] < bar:
        yield _cannot_overfit(target, "finding", first, losses[best], best, table)


def _last_or_infinite(train: Callable[[float, int], tuple[float, float]], rate: float) -> float:
    """Return the last loss at a rate that is tried; infinite if its weights diverge so that the loss refuses them."""
    try:
        return train(rate, RANGE_UPDATES)[1]
    except (RuntimeError, ValueError):
        return math.inf


def _require_possible_fall(target: Target, first: float, best: float) -> float | None:
    """Return the lowest loss that free outputs reach; None if that is unknown.

    Raises NotJudged if the loss does not have to fall further: its minimum is about as high, or unknown.
    """
    if target.tokens is not None and target.tokens.y is not None:
        return None  # The measure is the cross-entropy, whose minimum is 0.
    lowest = lowest_loss(target, _rows(target))
    if lowest is not None and (first - lowest <= MIN_FALL * abs(first) or first - best >= REACHED * (first - lowest)):
        raise NotJudged(f"the loss of these rows, {first:.4g}, hardly falls below {lowest:.4g} for any outputs")
    is_negative = target.record is not None and any(loss < 0 for u in target.record.updates for loss in u.losses)
    if lowest is None and (is_negative or min(first, best) < 0):
        raise NotJudged(NO_MINIMUM)
    return lowest


def _measure(target: Target) -> tuple[Measure, float]:
    """Return what measures how well rows are memorized, and the value to reach.

    It is the cross-entropy where it is known which targets are trained, and else the run's own loss, whose minimum is
    unknown.
    """
    if target.tokens is not None and target.tokens.y is not None:
        if target.loss_function is None:
            return partial(_plain_loss, 0), _bar(target)
        trained = trained_targets(target)
        shift = trained.view_shift
        are_all = shift is None or not leaves_out_targets(trained.measurement, shift, target.ignored)
        if are_all and (shift is not None or target.output_loss is not None):
            return partial(_plain_loss, shift or 0), _bar(target)
    if target.record is not None:
        require_given_data(target.record)
    one, other = (_own_loss(replace(target, seed=seed), _rows(target)) for seed in (1, 2))
    if abs(one - other) > MIN_FALL / 2 * max(abs(one), abs(other)):
        raise NotJudged("the loss draws random numbers, so it does not show whether rows are memorized")
    return _own_loss, math.inf


def _bar(target: Target) -> float:
    """Return the loss of a model that has learned more than token frequencies; infinite if the targets barely vary."""
    targets = target.probe.y[:ROWS][target.probe.y[:ROWS] != target.ignored]
    if len(targets) == 0:
        return math.inf
    share = torch.bincount(targets).double() / len(targets)
    entropy = float(-(share[share > 0] * share[share > 0].log()).sum())
    return FREQUENCIES * entropy if entropy > 0.3 else math.inf


def _fall_in_loop(target: Target) -> tuple[float, float] | None:
    """Return the first and the last loss of the script's own updates, if they fell by what a trial should reach."""
    losses = [loss for update in target.record.updates for loss in update.losses] if target.record else []
    if len(losses) < 2 or not losses[0] - losses[-1] > MIN_FALL * abs(losses[0]):
        return None
    return losses[0], losses[-1]


def _rate(target: Target) -> float:
    """Return the largest learning rate. A schedule with a warm-up has set it to 0 and kept the planned one."""
    return max(
        max(float(group["lr"]), float(group.get("initial_lr", 0.0)))
        for optimizer in target.optimizers
        for group in optimizer.param_groups
    )


def _rate_after_updates(target: Target) -> float:
    """Return the learning rate after two updates, which a schedule within them may have changed."""
    trial = target.fresh()
    _skip_warm_up(trial)
    for _ in range(2):
        trial.apply_update(_rows(trial))
    return max(float(group["lr"]) for optimizer in trial.optimizers for group in optimizer.param_groups)


def _train(target: Target, measure: Measure, lr: float | None, updates: int) -> tuple[float, float]:
    """Return the loss on two rows before and after `updates` without dropout, at `lr` or the run's own rate."""
    trial = target.fresh()
    if lr is not None:
        trial.set_lr(lr)
    else:
        _skip_warm_up(trial)
    batch = _rows(trial)
    first = measure(trial, batch)
    evaluations = _evaluations(trial)
    began = time.process_time()
    with without_dropout(trial.model):
        for step in range(max(1, updates // evaluations)):
            if step == 1 and (seconds := time.process_time() - began) * UPDATES / evaluations > MAX_CPU_SECONDS:
                raise NotJudged(f"an update of {ROWS} rows takes {seconds:.2g} s, so memorizing them takes too long")
            trial.apply_update(batch, trial.seed + step)
    return first, measure(trial, batch)


def _evaluations(target: Target) -> int:
    """Return how many times one update computes the loss: more than once for LBFGS."""
    return max(int(group.get("max_iter", 1)) for optimizer in target.optimizers for group in optimizer.param_groups)


def _skip_warm_up(trial: Target) -> None:
    """Set the planned rates in place of those that a schedule starts with."""
    for optimizer in trial.optimizers:
        for group in optimizer.param_groups:
            if "initial_lr" in group:
                group["lr"] = max(float(group["lr"]), float(group["initial_lr"]))


def _rows(target: Target) -> Batch:
    return trial_rows(target.probe.batch, ROWS, whole=target.fixed_shape)


def _plain_loss(shift: int, target: Target, batch: Batch) -> float:
    """Return the mean cross-entropy of the batch's targets, moved by `shift` as the trained loss moves them."""
    with target.evaluating(), torch.no_grad():
        moved = shifted(targets_of(required(target.tokens), batch).to(target.device), shift)
        y = moved.masked_fill(moved == UNKNOWN, target.ignored)
        return float(mean_cross_entropy(target.logits_of(batch), y, target.ignored))


def _own_loss(target: Target, batch: Batch) -> float:
    with target.evaluating(), batch_statistics(target.model), torch.no_grad():
        return float(target.loss(batch).detach())


def _rows_text(target: Target) -> str:
    return "one batch" if target.fixed_shape else "two rows"


def _wrong_rate(
    target: Target,
    code: Literal["lr_too_high", "lr_too_low"],
    lr: float,
    best: float,
    first: float,
    last: float,
    table: tuple[str, ...],
) -> Finding:
    high = code == "lr_too_high"
    return Finding(
        code=code,
        title=f"The learning rate {lr:g} is too {'high' if high else 'low'}.",
        evidence=f"{UPDATES} updates on {_rows_text(target)} change the loss from {first:.3f} to {last:.3f}; "
        f"{best:g} works best",
        why="Steps this large overshoot every minimum." if high else "Steps this small barely change the weights.",
        fix=f"Try {best:g}, then halve or double it.",
        drawing=table,
        proposal={"optim.lr": best},
    )


def _cannot_overfit(
    target: Target, kind: Kind, first: float, last: float, best: float, table: tuple[str, ...]
) -> Finding:
    rows = _rows_text(target)
    return Finding(
        code="cannot_overfit",
        kind=kind,
        title=f"The model cannot memorize {rows} at any learning rate.",
        evidence=f"the best of {len(RATES)} rates, {best:g}, changes the loss from {first:.3f} to {last:.3f}",
        why=f"A model that cannot overfit {rows} has a bug that neither data nor settings can fix.",
        fix="Check everything between the input and the loss: shapes, masks, detached tensors, and the targets.",
        drawing=table,
    )
