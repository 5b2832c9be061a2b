"""The loss: cross-entropy of logits against targets, the ignored ones left out. Softmax stands nowhere else."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.model import Transformer
from data.dataset import IGNORED

# From this many vocabulary entries on, the head is computed in chunks of rows and its logits are never all kept:
# at V = 50,257 and 16 × 128 tokens that halves the step. For small vocabularies the plain path is faster.
CHUNK_FROM_VOCAB = 4096
CHUNK_ROWS = 128


def logits_of(model: nn.Module, x: Tensor) -> Tensor:
    """x int64 [B, T] → logits [B, T, V], also where a model gives them first of a tuple, or as `.logits`."""
    output: Any = model(x)
    if isinstance(output, tuple | list):
        output = output[0]
    found: Tensor = output if isinstance(output, Tensor) else output.logits
    return found


def cross_entropy_sum(logits: Tensor, y: Tensor, ignored: int = IGNORED) -> Tensor:
    """logits [B, T, V], y [B, T]: the sum in nats over the targets that are not `ignored`."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=ignored, reduction="sum")


def loss_sum(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Sum, in nats, of the cross-entropy over the targets of y that are not ignored. x, y: int64 [B, T]."""
    if not isinstance(model, Transformer):
        return cross_entropy_sum(logits_of(model, x), y)
    h, targets = model.hidden(x).flatten(0, 1), y.flatten()  # [B·T, D], [B·T]
    weight, bias = model.head.weight, model.head.bias
    if model.n_vocab < CHUNK_FROM_VOCAB:
        return F.cross_entropy(F.linear(h, weight, bias), targets, ignore_index=IGNORED, reduction="sum")
    if not torch.is_grad_enabled():
        # The chunked kernel prepares gradients ahead; without them a plain loop over the rows is enough.
        parts = [
            F.cross_entropy(F.linear(rows, weight, bias), part, ignore_index=IGNORED, reduction="sum")
            for rows, part in zip(torch.split(h, CHUNK_ROWS), torch.split(targets, CHUNK_ROWS), strict=True)
        ]
        return torch.stack(parts).sum()
    return F.linear_cross_entropy(
        h,
        weight,
        targets,
        linear_bias=bias,
        ignore_index=IGNORED,
        reduction="sum",
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=CHUNK_ROWS),
    )


def exact_matches(logits: Tensor, y: Tensor) -> Tensor:
    """For each row, whether the likeliest token is right at every target that is not ignored: bool [B].

    With a causal model this equals the exact match of greedy decoding: by induction, a decoder that has been
    right so far sees just the tokens that stand in x.
    """
    return ((logits.argmax(dim=-1) == y) | (y == IGNORED)).all(dim=1)
