"""Is the end of a row ever a target? Without it, generation does not stop. Cost: eight batches."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.data.unused_ends import unused_ends
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.trained_targets import (
    TrainedBatch,
    TrainedTargets,
    are_next_ids,
    trained_batch,
    trained_targets,
)
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target

COMMON = 0.9
"""Fraction of the rows that have the same last target if it marks the end."""
MIN_ROWS = 8
MAX_STEPS = 64
VARIED_FILL = -1
"""Stands for several tokens that follow the last target of a row."""


@dataclass(frozen=True)
class RowEnd:
    """The end of a row's trained targets.

    token: the last counted target. n_ignored: the ignored ones after it. fill: the token that fills the row up after
    the one that `token` predicts; VARIED_FILL for several tokens, None if none follows.
    """

    token: int
    n_ignored: int
    fill: int | None


def check(target: Target) -> Iterator[Finding]:
    trained = trained_targets(target)
    if not any(are_next_ids(batch, target.ignored) for batch in trained.batches):
        raise NotApplicable("the targets are not the next ids of their row")
    if unused_ends(trained, target.ignored) is not None:
        raise NotJudged("ids that vary come after the last target of each row")
    edge = max(trained.shift or 0, _positions_cut_off(target))
    ends = [end for batch in trained.batches for end in _ends(batch, target.ignored, edge)]
    if {end.n_ignored for end in ends} in ({0}, {1}):  # The last target of a window may be unknown.
        raise NotApplicable("no row ends with ignored targets, so none is padded")
    if len(ends) < MIN_ROWS:
        raise NotJudged(f"{len(ends)} rows are too few; {MIN_ROWS} are needed")
    # Rows that are cut off at the length of the context end anywhere.
    padded = [end for end in ends if end.fill is not None] or ends
    _, n_last = Counter(end.token for end in padded).most_common(1)[0]
    is_common = n_last >= COMMON * len(padded)
    fills = {end.fill for end in ends if end.fill is not None}
    if len(fills) != 1:
        if is_common:
            return
        raise NotJudged("the rows do not end with the same token, and no single one fills them up")
    [padding] = fills
    if any(bool((batch.trained == padding).any()) for batch in trained.batches):
        return  # The same token is a target elsewhere.
    proof = _end_in_mask(target, trained)
    if is_common and not proof:
        return
    proof = proof or _end_in_config(target, padding) or _end_of_longest_rows(target, trained, edge)
    yield _end_never_target(target, ends, padding, proof)


def _positions_cut_off(target: Target) -> int:
    """Return how many positions of each row the loss of the real loop leaves out: 1 for logits[:, :-1]."""
    measured = target.record.measurements if target.record is not None else ()
    for one in measured:
        if one.targets is not None and one.logits.dim() == 3:
            rows, length = one.logits.shape[:2]
            return 1 if one.targets.numel() == rows * (length - 1) else 0
    return 0


def _ends(batch: TrainedBatch, ignored: int, edge: int) -> Iterator[RowEnd]:
    """Yield the end of each row with a counted target.

    edge: positions at the end that the loss's shift ignores in any row.
    """
    length = batch.x.shape[1]
    counted = batch.trained != ignored
    position = torch.arange(length, device=counted.device)
    lasts = torch.where(counted, position, -1).amax(dim=1)
    for x, y, last in zip(batch.x, batch.trained, lasts.tolist(), strict=True):
        if last < 0:
            continue
        fill = x[last + 2 :]
        is_constant = len(fill) > 0 and bool((fill == fill[0]).all())
        token = int(fill[0]) if is_constant else VARIED_FILL if len(fill) else None
        yield RowEnd(int(y[last]), length - 1 - edge - last, token)


def _end_in_mask(target: Target, trained: TrainedTargets) -> str:
    """Return how a mask proves that the first ignored token of each row is a real end; empty if none does."""
    first = trained.batches[0]
    if any(_shows_end(tensor, first, target.ignored) for tensor in tensors_of(first.batch)):
        return "the batch's mask counts one token more than has a target"
    return ""


def _end_in_config(target: Target, padding: int) -> str:
    """Return how the model's config proves that the token is the end; empty if it does not."""
    if getattr(getattr(target.model, "config", None), "eos_token_id", None) == padding:
        return f"the model's config has eos_token_id={padding}"
    return ""


def _end_of_longest_rows(target: Target, trained: TrainedTargets, edge: int) -> str:
    """Return that rows without padding end with an ignored target, too, as a proof; empty if they do not."""
    lengths: set[int] = set()
    for batch in _more_batches(target, trained):
        if min((end.n_ignored for end in _ends(batch, target.ignored, edge)), default=0) < 1:
            return ""
        lengths.add(batch.x.shape[1])
        if len(lengths) > 1:
            return "even the longest row of each batch, which needs no padding, ends with an ignored target"
    return ""


def _more_batches(target: Target, trained: TrainedTargets) -> Iterator[TrainedBatch]:
    """Yield the batches that were looked at, and others: batches that are padded to their longest row may be rare."""
    yield from trained.batches
    if target.varies and trained.batches[0].y is not None:
        for step in range(len(trained.batches), MAX_STEPS):
            yield trained_batch(target, target.batch(step), trained.view_shift or 0)


def _shows_end(mask: Tensor, batch: TrainedBatch, ignored: int) -> bool:
    """Return whether `mask` [B, T] is 1 for exactly one token more than the last target of every padded row."""
    if mask.shape != batch.x.shape or torch.equal(mask, batch.x) or not bool(((mask == 0) | (mask == 1)).all()):
        return False
    length = mask.shape[1]
    position = torch.arange(length, device=mask.device)
    last = torch.where(batch.trained != ignored, position, -1).amax(dim=1)
    n_visible = mask.long().sum(dim=1)
    padded = n_visible < length
    return bool(padded.any()) and bool((n_visible == last + 3)[padded].all())


def _end_never_target(target: Target, ends: Sequence[RowEnd], padding: int, proof: str) -> Finding:
    tokens = Counter(end.token for end in ends)
    common = ", ".join(f"{target.show(token)}" for token, _ in tokens.most_common(4))
    name = target.show(padding)
    shown = f"{padding}" if name == str(padding) else f"{padding} ({name})"
    return Finding(
        code="end_never_target",
        kind="finding" if proof else "hint",
        title=f"The end of a row is never a target: the id {shown} that fills rows up is always ignored."
        if proof
        else f"No row is trained to end: the id {shown} that fills rows up is always ignored.",
        evidence=f"the last trained targets of {len(ends)} rows are {common}{' …' if len(tokens) > 4 else ''}; the id "
        f"{padding} follows and is never a target" + (f"; {proof}" if proof else ""),
        why="The model never learns to produce the end, so generation runs on until its limit.",
        fix=f"Pad with an id of its own, or ignore the id {padding} only after its first place in each row, so that "
        "the end keeps its target."
        if proof
        else f"If {padding} also marks the end, or rows should end, keep one end token in each row as a target.",
    )
