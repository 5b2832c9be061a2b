"""The loss: cross-entropy of logits against targets, the ignored ones left out. Softmax stands nowhere else."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.model import Transformer
from data.dataset import IGNORED

# From this many vocabulary entries on, the head is computed in chunks of rows and its logits are never all kept:
# at V = 50,257 and 16 × 128 tokens that halves the step. For small vocabularies the plain path is faster.
CHUNK_FROM_VOCAB = 4096
CHUNK_ROWS = 128


def loss_sum(model: Transformer, x: Tensor, y: Tensor) -> Tensor:
    """Sum, in nats, of the cross-entropy over the targets of y that are not ignored. x, y: int64 [B, T]."""
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
