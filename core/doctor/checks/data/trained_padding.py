"""Is padding trained? Called by the check of the targets."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.measures.trained_targets import TrainedBatch, TrainedTargets
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target

MIN_SHARE = 0.1
"""Fraction of the counted targets that are padding below which it hardly matters."""
MIN_PADDED = 0.5
"""Fraction of the rows that end with the same token repeated, if that token is padding."""
MIN_LENGTHS = 3
"""Different lengths that rows without their tails have."""


def check_padding(target: Target, trained: TrainedTargets) -> Iterator[Finding]:
    """Yield a finding or a hint if the counted targets include the tails of rows."""
    token = _padding_token(trained.batches)
    if token is None:
        return
    counted = n_padding = 0
    for batch in trained.batches:
        counts = batch.trained != target.ignored
        counted += int(counts.sum())
        n_padding += int((counts & _tail(batch.x, token) & (batch.trained == token)).sum())
    if not counted or n_padding < MIN_SHARE * counted:
        return
    proof = _proof(target, trained, token)
    yield Finding(
        code="padding_trained",
        kind="finding" if proof else "hint",
        title=f"{n_padding / counted:.0%} of the targets that count are padding."
        if proof
        else f"{n_padding / counted:.0%} of the targets that count look like padding.",
        evidence=f"{n_padding:,} of {counted:,} counted targets repeat the id {token} with which rows end; "
        + (proof or "it occurs nowhere else, and the tails differ in length"),
        why="The model soon predicts padding, which makes the loss look low and leaves less gradient for the rest.",
        fix=f"Set the targets of the padding to {target.ignored}, all but the first one where it marks the end.",
    )


def _tail(x: Tensor, token: int) -> Tensor:
    """Return which tokens, from the first of the tail on, are followed only by `token`: bool [B, T]."""
    return (x == token).flip(1).cumprod(1).flip(1).bool()


def _padding_token(batches: Sequence[TrainedBatch]) -> int | None:
    """Return the token that most rows repeat at their end and have nowhere else; None if there is none."""
    last = torch.cat([batch.x[:, -1] for batch in batches])
    token = int(last.mode().values)
    n_rows = n_padded = 0
    lengths: set[int] = set()
    for batch in batches:
        tail = _tail(batch.x, token)
        # The start token of a decoder may be the padding, as in T5.
        inside = ((batch.x == token) & ~tail)[:, 1:].any(dim=1)
        padded = (tail.sum(dim=1) >= 2) & ~inside
        n_rows += len(padded)
        n_padded += int(padded.sum())
        if float(inside.float().mean()) > 0.05:
            return None
        lengths |= set((~tail[padded]).sum(dim=1).tolist())
    return token if n_padded >= MIN_PADDED * n_rows and len(lengths) >= MIN_LENGTHS else None


def _proof(target: Target, trained: TrainedTargets, token: int) -> str:
    """Return what shows that the tails are padding; empty if nothing does."""
    for module in target.model.modules():
        if isinstance(module, nn.Embedding) and module.padding_idx == token:
            return f"the model's embedding has padding_idx={token}"
    config = getattr(target.model, "config", None)
    if getattr(config, "pad_token_id", None) == token != getattr(config, "eos_token_id", None):
        return f"the model's config has pad_token_id={token}, and another end"
    if token in target.paddings:
        return f"the script's tokenizer has pad_token_id={token}, and another end"
    first = trained.batches[0]
    tail = _tail(first.x, token)
    for tensor in tensors_of(first.batch):
        if tensor.shape == first.x.shape and bool(((tensor == 0) | (tensor == 1)).all()):
            hidden = tensor == 0
            inner = tail.cumsum(1) > 1  # The first one may be a real end.
            if bool(hidden.any()) and bool(hidden[inner].all()) and not bool(hidden[~tail].any()):
                return "the batch's mask is 0 there"
    lengths = {batch.x.shape[1] for batch in trained.batches}
    if len(lengths) > 1 and all(not bool(_tail(b.x, token).sum(1).gt(1).all()) for b in trained.batches):
        return "each batch is only as long as its longest row"
    return ""
