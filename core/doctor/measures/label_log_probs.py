"""Which targets a model trains that gets ids and labels, and returns log-probabilities of the labels but no logits.

As the models under TRL's trainers do, so that no logits [B, T, V] are held in memory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.measures.loss_calls import calls_of_loss
from tui_lab.core.doctor.program.batch import Batch, with_tensor
from tui_lab.core.doctor.program.nested import tensors_in, tensors_of
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import are_ids
from tui_lab.core.watch.model.model_search import X_NAMES

LABELS = "labels"
SHIFTS = (0, 1, -1, 2)
"""Positions that a label may be after the log-probability that is its own."""
TOLERANCE = 1e-4
"""Of the largest log-probability, that rounding changes at most: of float32 in another order of sums, 1e-6."""


@dataclass(frozen=True)
class Labeled:
    """ids x and labels, int64 [B, T] both, of a batch."""

    x: Tensor
    labels: Tensor


def labeled(batch: Batch) -> Labeled | None:
    """Return the ids of a batch and the labels of the same shape; None without labels, or with several such ids."""
    integers = [(path, t) for path, t in tensors_in(batch) if are_ids(t)]
    labels = next((t for path, t in integers if path[-1:] and path[-1].name == LABELS), None)
    if labels is None:
        return None
    others = [(path, t) for path, t in integers if t is not labels and t.shape == labels.shape and not _is_mask(t)]
    named = [(path, t) for path, t in others if path[-1:] and path[-1].name in X_NAMES]
    ids = [t for _, t in named or others]
    return Labeled(ids[0], labels) if len(ids) == 1 else None


def counted_labels(target: Target, batch: Batch) -> tuple[int, Tensor]:
    """Return k, and which positions count in the loss, bool [B, T]: position t is trained on labels[t + k].

    Raises NotJudged if the model does not return a log-probability for each label, or the loss does not use them.
    """
    pair = labeled(batch)
    if pair is None:
        raise NotJudged("it is not known which tensor holds the ids of the labels")
    measured = calls_of_loss(target, batch, [target.model])
    outputs = [values for call in measured.calls for values in _values(call.output, pair)]
    gradients = torch.autograd.grad(measured.loss, outputs, allow_unused=True) if outputs else ()
    used = [(values, gradient) for values, gradient in zip(outputs, gradients, strict=True) if gradient is not None]
    if len(used) != 1:
        raise NotJudged("the model gets ids and labels of the same shape, and returns no logits for them")
    values, gradient = used[0]
    counted = torch.zeros_like(pair.labels, dtype=torch.bool)
    counted[:, : values.shape[1]] = gradient != 0
    return _shift(target, batch, pair), counted


def sees_only_earlier(target: Target) -> bool:
    """Return whether the last id of the first batch leaves the log-probabilities of all earlier positions."""
    batch = target.batch(0)
    pair = labeled(batch)
    if pair is None:
        return target.causal
    changed = pair.x.clone()
    changed[:, -1] = pair.x[:, 0]
    before = _log_probs(target, batch, pair)
    after = _log_probs(target, with_tensor(batch, pair.x, changed), pair)
    if torch.equal(changed, pair.x) or before is None or after is None:
        return target.causal
    n = pair.x.shape[1] - 1
    return bool((before - after)[:, :n].abs().max() <= TOLERANCE * before.abs().max())


def _shift(target: Target, batch: Batch, pair: Labeled) -> int:
    """Return how many positions after a log-probability its label is, by a change of one label in each row."""
    before = _log_probs(target, batch, pair)
    length = pair.labels.shape[1]
    for t in sorted(range(length), key=lambda t: abs(t - length // 2)):
        rows = pair.labels[:, t] >= 0
        if not bool(rows.any()):
            continue
        changed = pair.labels.clone()
        changed[rows, t] = torch.where(pair.labels[rows, t] > 0, 0, 1)
        after = _log_probs(target, with_tensor(batch, pair.labels, changed), pair)
        if before is None or after is None:
            break
        places = ((before - after).abs() > TOLERANCE * before.abs().max()).any(dim=0).nonzero()[:, 0].tolist()
        if len(places) == 1 and t - places[0] in SHIFTS:
            return int(t - places[0])
    raise NotJudged("it is not known which log-probability belongs to which label")


def _log_probs(target: Target, batch: Batch, pair: Labeled) -> Tensor | None:
    with target.evaluating(), torch.no_grad():
        values = _values(target.output(batch), pair, needs_gradient=False)
    return values[0] if len(values) == 1 else None


def _values(output: object, pair: Labeled, *, needs_gradient: bool = True) -> list[Tensor]:
    """Return the tensors of an output that may be the log-probabilities of labels [B, T]: [B, T] or [B, T − 1]."""
    rows, length = pair.labels.shape
    return [
        t
        for t in tensors_of(output)
        if t.is_floating_point()
        and t.shape in ((rows, length), (rows, length - 1))
        and (t.requires_grad or not needs_gradient)
        and bool((t <= 0).all())
    ]


def _is_mask(tensor: Tensor) -> bool:
    return bool(((tensor == 0) | (tensor == 1)).all())
