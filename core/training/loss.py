"""The loss: cross-entropy of logits against targets, the ignored ones left out. Softmax stands nowhere else."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.config.schema import CHUNK_FROM_VOCAB
from tui_lab.core.kernels.chunked_cross_entropy import onednn_loss_sum
from tui_lab.core.kernels.linear import Kernels, linear
from tui_lab.core.model import Transformer
from tui_lab.data.dataset import IGNORED


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
    h, head = model.hidden(x).flatten(0, 1), model.head  # [B·T, D]
    return head_loss_sum(h, head.weight, head.bias, y.flatten(), model.kernels)


def head_loss_sum(h: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, kernels: Kernels) -> Tensor:
    """The same from the last layer's output on: h [N, D], weight [V, D], bias [V], targets [N] → []."""
    rows = kernels.head_rows
    if len(weight) < CHUNK_FROM_VOCAB:
        return _cross_entropy(linear(h, weight, bias, kernels.engine), targets)
    if kernels.engine == "onednn" and h.dtype == torch.float32 and h.device.type == "cpu":
        return onednn_loss_sum(h, weight, bias, targets, IGNORED, rows)
    if not torch.is_grad_enabled():
        # The chunked kernel prepares gradients ahead; without them a plain loop over the rows is enough.
        parts = zip(torch.split(h, rows), torch.split(targets, rows), strict=True)
        return torch.stack([_cross_entropy(F.linear(part, weight, bias), t) for part, t in parts]).sum()
    return F.linear_cross_entropy(
        h,
        weight,
        targets,
        linear_bias=bias,
        ignore_index=IGNORED,
        reduction="sum",
        options=nn.LinearCrossEntropyOptions(batch_chunk_size=rows),
    )


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def exact_matches(logits: Tensor, y: Tensor) -> Tensor:
    """For each row, whether the likeliest token is right at every target that is not ignored: bool [B].

    With a causal model this equals the exact match of greedy decoding: by induction, a decoder that has been
    right so far sees just the tokens that stand in x.
    """
    return ((logits.argmax(dim=-1) == y) | (y == IGNORED)).all(dim=1)
