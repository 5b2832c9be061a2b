"""How a program's batches hold token ids, and where the model's output has the logits over them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.nested import tensors_of


@dataclass(frozen=True)
class TokenView:
    """A program that maps token ids [B, T] to logits [B, T, V], whatever the form of its batches and outputs.

    x: batch → ids int64 [B, T]. For an encoder-decoder, those of the decoder.
    y: batch → targets int64 [B, T] as the loss gets them; None: they are not in the batch.
    with_x: (batch, ids) → the batch with other ids, of the same or another shape.
    logits: what the model returned → logits float [B, T, V].
    shortened: (batch, t) → the batch cut to t positions; None: rows have one length only.
    """

    x: Callable[[Batch], Tensor]
    y: Callable[[Batch], Tensor] | None
    with_x: Callable[[Batch, Tensor], Batch]
    logits: Callable[[Any], Tensor]
    shortened: Callable[[Batch, int], Batch] | None = None


def logits_in(output: Any) -> Tensor:
    """Return the logits in a model's output: an attribute or key `logits`, or the first float tensor that has axes.

    Raises ValueError if there is no tensor.
    """
    if isinstance(output, Tensor):
        return output
    logits = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    tensors = list(tensors_of(output))
    if not tensors:
        raise ValueError(f"the model returns a {type(output).__name__} without a tensor")
    return next((t for t in tensors if t.is_floating_point() and t.dim()), tensors[0])


def loss_in(output: Any) -> Tensor | None:
    """Return the loss in a model's output: the output itself, an attribute or key `loss`, or a scalar of a tuple."""
    loss = output
    if isinstance(output, Mapping):
        loss = output.get("loss")
    elif isinstance(output, list | tuple) and not hasattr(output, "_fields"):
        loss = next((t for t in output if _is_scalar(t)), None)
    elif not isinstance(output, Tensor):
        loss = getattr(output, "loss", None)
    return loss if _is_scalar(loss) else None


def _is_scalar(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point() and value.numel() == 1


def are_ids(tensor: Tensor) -> bool:
    """Return whether a tensor may hold token ids [B, T]: integers in two dimensions."""
    return tensor.dim() == 2 and not tensor.is_floating_point() and tensor.dtype is not torch.bool


def is_pair_of_ids(batch: Batch) -> bool:
    """Return whether a batch is (x, y) with ids of the same shape in both."""
    return (
        isinstance(batch, list | tuple)
        and len(batch) == 2
        and all(isinstance(item, Tensor) and are_ids(item) for item in batch)
        and batch[0].shape == batch[1].shape
    )


PAIRS = TokenView(
    x=lambda batch: batch[0],
    y=lambda batch: batch[1],
    with_x=lambda batch, ids: (ids, batch[1]),
    logits=logits_in,
    shortened=lambda batch, t: (batch[0][:, :t].contiguous(), batch[1][:, :t].contiguous()),
)
"""Batches (x, y), both [B, T]."""
