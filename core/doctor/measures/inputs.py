"""Which tensors of a batch the model reads, and which of them are neither tokens nor targets."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.program.batch import Batch, n_rows
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target


def inputs_of(batch: Batch) -> Batch:
    """Return the batch without the targets and the captured step of a script, which hold tensors of their own."""
    if isinstance(batch, dict) and "args" in batch and "kwargs" in batch:
        return {key: batch[key] for key in ("args", "kwargs")}
    return batch


def sources(target: Target) -> Iterator[Tensor]:
    """Yield what a model over tokens reads in addition to them, such as an encoder's ids or features.

    Ids [B, S] or numbers [B, S, ...] that are not the tokens, their targets, a mask, or equal in all rows.
    """
    batch = target.probe.batch
    tokens = target.tokens
    own_tensors = [] if tokens is None else [tokens.x(batch), *([tokens.y(batch)] if tokens.y is not None else [])]
    rows = n_rows(inputs_of(batch))
    for tensor in tensors_of(inputs_of(batch)):
        has_rows = tensor.dim() == (3 if tensor.is_floating_point() else 2) and len(tensor) == rows
        if has_rows and _differs_by_row(tensor) and not any(_are_parts(tensor, other) for other in own_tensors):
            yield tensor


def _differs_by_row(tensor: Tensor) -> bool:
    return len(torch.unique(tensor)) > 2 and bool((tensor != tensor[:1]).any())


def _are_parts(tensor: Tensor, other: Tensor) -> bool:
    """Return whether one holds the rows of the other, up to a token at an end."""
    longer, shorter = (tensor, other) if tensor.shape[-1] >= other.shape[-1] else (other, tensor)
    T = shorter.shape[-1]
    if longer.dim() != 2 or shorter.dim() != 2 or len(longer) != len(shorter) or longer.shape[-1] - T > 1:
        return False
    if T > 1 and longer.shape[-1] == T and torch.equal(tensor[:, 1:], other[:, :-1]):
        return True  # Labels that the model shifts, beside the targets that its loss gets.
    return torch.equal(longer[:, :T], shorter) or torch.equal(longer[:, -T:], shorter)
