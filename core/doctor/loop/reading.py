"""What several checks read from a record."""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import NotApplicable, NotJudged
from tui_lab.core.doctor.loop.record import LoopEvent, LoopRecord, LossMeasurement, Operation, UpdateRecord
from tui_lab.core.watch.steering.steering import dropout_rates
from tui_lab.util.plural import counted

MAX_RESIDUAL = 0.05
"""Of a gradient with respect to logits, the part that weighted cross-entropy does not explain; rounding in bfloat16
leaves 0.01, label smoothing of 0.1 leaves 0.1."""
NO_UPDATE = "no update of the loop was recorded"
BY_HAND_BESIDES = "updates by hand are followed only where the script has created no optimizer of torch"
OTHER_RULE = "the updates by hand do not subtract fixed multiples of the gradients, so that they cannot be repeated"
OTHER_TENSORS = "the updates by hand change none of the model's parameters, but other tensors"
OWN_ROWS = 0.9
"""Share of the trained rows that the model has acted on, from which they are taken for its own data."""
MIN_LATER = 0.1
"""Share of the trained rows that the model has acted on between updates."""
MIN_LAST = 3
"""Updates at the end without a finite gradient after which the gradients stay so."""
MIN_UNSURE = 1e-3
"""1 - the probability of the target, below which the weight of a target cannot be read off its gradient."""


def require_updates(updates: Sequence[UpdateRecord], n: int, kind: str = "") -> None:
    """Raise NotJudged if there are fewer than `n` updates. kind: which ones: "with a backward call"."""
    if not updates:
        raise NotJudged(f"no update {kind} was recorded" if kind else NO_UPDATE)
    if len(updates) < n:
        raise NotJudged(f"the loop made {len(updates)} updates{kind and ' '}{kind}; {n} are needed")


def require_finite_gradients(updates: Sequence[UpdateRecord]) -> None:
    """Raise NotJudged if no gradient of the last updates was finite: only those before could be examined."""
    last = updates[-MIN_LAST:]
    if last and all(update.not_finite for update in last):
        first = next(update.number for update in updates if update.not_finite)
        raise NotJudged(f"the gradients are not finite from update {first + 1} on")


def why_not_repeatable(record: LoopRecord) -> str:
    """Return why what a loop does by hand in an update cannot be done on a copy; "" if it can, or if nothing is."""
    if not record.moves_by_hand:
        return ""
    if not record.updates:
        return BY_HAND_BESIDES
    if not any(update.moved for update in record.updates):
        return OTHER_TENSORS
    return "" if record.is_plain_by_hand else OTHER_RULE


def require_given_data(record: LoopRecord) -> None:
    """Raise NotApplicable if the loop trains on what the model itself has done, as in reinforcement learning.

    Its loss is then that of a policy, which has no known minimum and need not fall, or that of values that change with
    the policy. The model was called without gradients with almost all rows, to act on them. For a loss function of
    torch, that must have been before it was trained on them, and for some between updates: an evaluation before the
    training may have all rows.
    """
    rows = {row for update in record.updates for row in update.rows}
    if not rows:
        return
    acted = record.evaluation_rows - record.training_part_rows
    if any(mean is not None for update in record.updates for mean in update.means):
        acted &= record.rows_evaluated_first
        if len(rows & record.rows_evaluated_later) < MIN_LATER * len(rows):
            return
    if len(rows & acted) >= OWN_ROWS * len(rows):
        raise NotApplicable("the loop trains on rows that the model has acted on before, as in reinforcement learning")


def line_of(update: UpdateRecord, operation: Operation) -> str:
    """Return the line of the first event with this operation, or ""."""
    return next((event.line for event in update.events_of(operation)), "")


def between(update: UpdateRecord, after: Operation, before: Operation) -> tuple[LoopEvent, ...]:
    """Return the events between the last `after` and the first `before` that follows it."""
    operations = [event.operation for event in update.events]
    if after not in operations:
        return ()
    first = len(operations) - 1 - operations[::-1].index(after)
    last = next((i for i in range(first, len(operations)) if operations[i] == before), len(operations))
    return update.events[first + 1 : last]


def detached_backwards(record: LoopRecord) -> list[str]:
    """Return the lines of the backward calls that were looked at, if no weight was in the graph of any; else []."""
    events = [*(event for update in record.updates for event in update.events), *record.remaining]
    calls = [event for event in events if event.is_detached is not None]
    return [event.line for event in calls] if all(event.is_detached for event in calls) else []


def line_between(update: UpdateRecord, operation: Operation, after: Operation, before: Operation) -> str:
    """Return the line of the first such event that `between` returns, or ""."""
    return next((event.line for event in between(update, after, before) if event.operation == operation), "")


def trained_forwards(events: Iterable[LoopEvent]) -> Iterator[LoopEvent]:
    """Yield the forward call before each backward call."""
    latest = None
    for event in events:
        if event.operation == "forward":
            latest = event
        elif event.operation == "backward" and latest is not None:
            yield latest
            latest = None


def named_at(line: str) -> str:
    """Return " in train.py:42" for a sentence, or "" if the line is unknown."""
    return f" in {line}" if line else ""


def and_others(n: int) -> str:
    """Return " and 1 other", " and 3 others", or "" for none."""
    return f" and {counted(n, 'other')}" if n else ""


def some(names: Sequence[str], n: int = 6) -> str:
    """Return up to `n` names, and how many more there are."""
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")


def mode_matters(model: nn.Module, dropout: float | None = None) -> str:
    """Return what behaves differently in training: "dropout of 0.1 and batch normalization", one of them, or "".

    dropout: the rate that is meant to act; None: the highest of the model's modules.
    """
    rate = dropout or max((rate for _, _, rate in dropout_rates(model)), default=0.0)
    parts = [f"dropout of {rate:g}"] if rate > 0 else []
    if normalizes_batches(model):
        parts.append("batch normalization")
    return " and ".join(parts)


def normalizes_batches(model: nn.Module) -> bool:
    """Return whether the model has batch normalization with running statistics."""
    return any(isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats for m in model.modules())


def direction(measurement: LossMeasurement) -> float | None:
    """Return the cosine between the measured gradient and that of the cross-entropy of its targets.

    None if the targets are unknown or do not match the logits.
    """
    n_vocab = measurement.logits.shape[-1]
    logits = measurement.logits.reshape(-1, n_vocab).float()
    gradient = measurement.gradient.reshape(-1, n_vocab).float()
    targets = measurement.targets
    if targets is None or targets.is_floating_point() or targets.numel() != len(logits):
        return None
    y = targets.reshape(-1)
    counted = (y >= 0) & (y < n_vocab) & (gradient != 0).any(dim=-1)
    if not counted.any():
        return None
    expected = logits[counted].softmax(dim=-1)
    expected[torch.arange(len(expected)), y[counted]] -= 1
    return float(torch.nn.functional.cosine_similarity(expected.flatten(), gradient[counted].flatten(), dim=0))


def target_weights(measurement: LossMeasurement) -> Tensor | None:
    """Return the weight of each trained target in the loss [N], read off the gradient; None if it is another loss.

    For L = Σ wᵢ · cross-entropy of target yᵢ, the gradient of L with respect to row i of the logits is
    wᵢ (softmax - one-hot yᵢ). Only yᵢ has a negative entry. A mean has Σ wᵢ = 1.
    """
    n_vocab = measurement.logits.shape[-1]
    gradient = measurement.gradient.reshape(-1, n_vocab).float()
    trained = (gradient != 0).any(dim=-1)
    if n_vocab < 2 or not trained.any():
        return None
    gradient = gradient[trained]
    expected = measurement.logits.reshape(-1, n_vocab)[trained].float().softmax(dim=-1)
    smallest, y = gradient.min(dim=-1)
    rows = torch.arange(len(gradient))
    unsure = 1 - expected[rows, y]
    weights = -smallest / unsure.clamp(min=MIN_UNSURE)
    expected[rows, y] -= 1
    clear = unsure > MIN_UNSURE
    if not clear.any():
        return None
    residual = (gradient - weights[:, None] * expected)[clear].norm() / gradient[clear].norm()
    return weights if float(residual) < MAX_RESIDUAL else None
