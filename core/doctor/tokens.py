"""How a program's batches hold token ids, and where the model's output has the logits over them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tui_lab.core.doctor.batch import Batch


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
    """Return the logits in a model's output: a tensor, the first item of a tuple, or an attribute or key `logits`."""
    if isinstance(output, tuple | list):
        output = output[0]
    if isinstance(output, Tensor):
        return output
    logits: Tensor = output["logits"] if isinstance(output, dict) else output.logits
    return logits


PAIRS = TokenView(
    x=lambda batch: batch[0],
    y=lambda batch: batch[1],
    with_x=lambda batch, ids: (ids, batch[1]),
    logits=logits_in,
    shortened=lambda batch, t: (batch[0][:, :t].contiguous(), batch[1][:, :t].contiguous()),
)
"""Batches (x, y), both [B, T]."""
