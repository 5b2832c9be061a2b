"""Are the ids in the model's vocabulary? Cost: eight batches, two forward passes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.measures.vocabulary_sizes import vocabulary_sizes
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.target import Target, required

STEPS = 8


def check(target: Target) -> Iterator[Finding]:
    sizes = vocabulary_sizes(target)
    for step in range(STEPS if target.varies else 1):
        batch = target.batch(step)
        finding = _judge_inputs(target, batch, step, sizes.embedding, sizes.logits)
        finding = finding or _judge_targets(target, batch, step, sizes.embedding, sizes.logits)
        if finding is not None:
            yield finding
            return


def _judge_inputs(target: Target, batch: Batch, step: int, n_rows: int | None, n_logits: int | None) -> Finding | None:
    """n_rows: of the embedding."""
    x = required(target.tokens).x(batch)
    finding = _out_of_range(x, "x", n_rows or n_logits or target.n_vocab, step, "")
    if finding is not None and n_rows is None and _model_accepts(target, batch):
        return None  # A decoder may take ids that it never returns, such as that of the start.
    return finding


def _judge_targets(target: Target, batch: Batch, step: int, n_rows: int | None, n_logits: int | None) -> Finding | None:
    tokens = required(target.tokens)
    if tokens.y is None:
        return None
    y = tokens.y(batch)
    also_allowed = f", or {target.ignored} to ignore a target"
    finding = _out_of_range(y[y != target.ignored], "y", n_logits or n_rows or target.n_vocab, step, also_allowed)
    return None if finding is not None and _loss_accepts(target, batch) else finding


def _model_accepts(target: Target, batch: Batch) -> bool:
    """Return whether the model takes the batch."""
    try:
        with target.evaluating(), torch.no_grad():
            target.output(batch)
    except Exception:
        return False
    return True


def _loss_accepts(target: Target, batch: Batch) -> bool:
    """Return whether the run's own loss takes the targets, as it does if it ignores those outside the vocabulary."""
    if target.loss_function is None:
        return False
    try:
        with target.evaluating(), torch.no_grad():
            return bool(torch.isfinite(target.loss(batch)))
    except Exception:
        return False


def _out_of_range(ids: Tensor, name: str, size: int | None, step: int, also_allowed: str) -> Finding | None:
    """Return the finding if any id is not from 0 to `size` - 1."""
    if ids.numel() == 0 or (int(ids.min()) >= 0 and (size is None or int(ids.max()) < size)):
        return None
    low, high = int(ids.min()), int(ids.max())
    allowed = (f"0 to {size - 1:,}" if size else "0 or more") + also_allowed
    return Finding(
        code="wrong_vocab",
        title=f"{name} contains the id {high if low >= 0 else low:,}, which is not in the model's vocabulary.",
        evidence=f"batch {step + 1}: ids of {name} range from {low:,} to {high:,}; allowed: {allowed}",
        why="An id outside the embedding raises an index error, or on a GPU, an opaque device-side assert.",
        fix="Build the model with tokenizer.n_vocab, and mark ignored targets with the loss's ignore_index.",
        explains=("forward_fails",),
    )
