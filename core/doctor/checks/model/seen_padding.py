"""Do real tokens see padding that the batch does not hide? Called by the check of the padding.

Decidable where a tokenizer of the script names the padding, and the model takes a mask of it.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.measures.differences import relative_difference
from tui_lab.core.doctor.measures.inputs import inputs_of
from tui_lab.core.doctor.program.nested import tensors_in
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.tokens import are_ids, logits_in

MIN_PADDED = 0.5
"""Fraction of the rows that have padding."""
NOISE = 1.0
"""Standard deviations of the embeddings that are added to those of the padding."""


@dataclass(frozen=True)
class SeenPadding:
    """How much the outputs of real tokens change with the embedding of the padding, relative to their range.

    side: of the row that is padded.
    """

    relative: float
    token: int
    side: str


def seen_padding(target: Target) -> SeenPadding | None:
    """Return how much of the padding of the first batch real tokens see; None without padding that is known as such."""
    if not target.paddings or "attention_mask" not in inspect.signature(target.model.forward).parameters:
        return None
    batch = target.batch(0)
    for path, ids in tensors_in(inputs_of(batch)):
        if not are_ids(ids) or (path and path[-1].name == "labels"):
            continue
        for token in sorted(target.paddings):
            side = _padded_side(ids, token)
            if side:
                before = logits_in(target.output(batch)).float()
                with _noise(target.model, ids, token):
                    after = logits_in(target.output(batch)).float()
                real = ids != token if before.shape[:2] == ids.shape and before.dim() == 3 else None
                return SeenPadding(relative_difference(after, before, real), token, side)
    return None


def _padded_side(ids: Tensor, token: int) -> str:
    """Return at which side most rows have the padding; "" if at none, or if a row is nothing else."""
    is_padding = ids == token
    is_padded = is_padding.any(dim=1)
    if bool(is_padding.all(dim=1).any()) or float(is_padded.float().mean()) < MIN_PADDED:
        return ""
    rows = is_padding[is_padded]
    n = rows.sum(dim=1)
    for side, ordered in (("start", rows), ("end", rows.flip(1))):
        if bool((ordered.cumprod(dim=1).sum(dim=1) == n).all()):
            return side
    return ""


@contextmanager
def _noise(model: nn.Module, ids: Tensor, token: int) -> Iterator[None]:
    """Change what the embedding of these ids returns for the padding."""

    def changed(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        x = args[0] if args else None
        if not isinstance(x, Tensor) or x.shape != ids.shape or not torch.equal(x.to(ids.device), ids):
            return None
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(output.shape[-1], generator=generator).to(output) * output.std() * NOISE
        return torch.where((x == token)[..., None], output + noise, output)

    handles = [m.register_forward_hook(changed) for m in model.modules() if isinstance(m, nn.Embedding)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
