"""The head and the cross-entropy with bfloat16 products, one chunk of rows at a time.

The mathematics is that of chunked_cross_entropy.py. The logits of a chunk and their gradient are bfloat16. Softmax,
loss and the sums over chunks are float32, as under torch.autocast.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tui_lab.core.kernels.chunked_cross_entropy import HeadLoss, TargetLosses, replace_by_gradient, sum_and_keep
from tui_lab.core.kernels.linear import onednn_has_bf16, onednn_linear

SOFTMAX_BYTES = 2**21
"""Bytes of float32 probabilities at once, so that they stay in the processor's cache between the passes over them."""


def bf16_loss_sum(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    ignored: int,
    rows: int,
    losses: TargetLosses | None = None,
) -> Tensor:
    """Sum the cross-entropy in nats, `rows` rows at a time.

    h [N, D], weight [V, D], bias [V], targets int64 [N] → float32 []; targets equal to `ignored` do not count.
    """
    if torch.is_grad_enabled():
        loss: Tensor = _Bf16HeadLoss.apply(  # type: ignore[no-untyped-call]
            h, weight, bias, targets, ignored, rows, losses
        )
        return loss
    h, weight, bias = h.bfloat16(), weight.bfloat16(), bias.bfloat16()
    parts = zip(torch.split(h, rows), torch.split(targets, rows), strict=True)
    return sum_and_keep([_losses(_product(part, weight, bias), t, ignored) for part, t in parts], losses)


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a bᵀ + bias: bfloat16 a [M, K], b [N, K], bias [N] → [M, N]."""
    # F.linear copies the bias into the result first, which for the logits is a sixth of its time.
    return onednn_linear(a, b, bias) if a.device.type == "cpu" and onednn_has_bf16() else F.linear(a, b, bias)


def _losses(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Return −ln p of each row in float32: logits [R, V] → [R]."""
    return F.cross_entropy(logits.float(), targets, ignore_index=ignored, reduction="none")


def _loss_and_gradient(logits: Tensor, targets: Tensor, ignored: int, losses: TargetLosses | None) -> Tensor:
    """Return the summed loss of the rows, [], and replace the logits [R, V] by its gradient with respect to them."""
    if logits.device.type != "cpu":
        part_losses = replace_without_reading(logits, targets, ignored)
        if losses is not None:
            losses.append(part_losses)
        return part_losses.sum()
    total = logits.new_zeros((), dtype=torch.float32)
    rows = max(1, SOFTMAX_BYTES // (4 * logits.shape[1]))
    buffer = logits.new_empty((min(rows, len(logits)), logits.shape[1]), dtype=torch.float32)
    for part, part_targets in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True):
        in_float32 = buffer[: len(part)].copy_(part)

        def exact_losses(mask: Tensor, part: Tensor = part, part_targets: Tensor = part_targets) -> Tensor:
            return _losses(part[mask], part_targets[mask], ignored)

        part_losses = replace_by_gradient(in_float32, part_targets, ignored, exact_losses)
        total += part_losses.sum()
        if losses is not None:
            losses.append(part_losses)
        part.copy_(in_float32)
    return total


def replace_without_reading(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Do what `replace_by_gradient` does, and no step depends on a value, so that the CPU never waits for a GPU.

    logits: bfloat16 [R, V]. Returns float32 [R].
    """
    counted = targets != ignored  # [R]
    at = targets.where(counted, 0)[:, None]  # [R, 1]
    highest, at_highest = logits.max(dim=1, keepdim=True)  # [R, 1] each
    gaps = highest.float() - logits.gather(1, at).float()  # [R, 1]
    probabilities = torch.softmax(logits, dim=1, dtype=torch.float32)
    # −ln p[y] = (highest logit − logit of y) − ln of the highest p, which is at least 1 / V: exact for any p[y].
    losses = (gaps - probabilities.gather(1, at_highest).log())[:, 0].where(counted, 0.0)
    probabilities.scatter_add_(1, at, torch.full_like(at, -1.0, dtype=torch.float32))
    torch.mul(probabilities, counted[:, None], out=logits)
    return losses


class _Bf16HeadLoss(HeadLoss):
    @staticmethod
    def forward(
        ctx: Any,
        h: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        ignored: int,
        rows: int,
        losses: TargetLosses | None,
    ) -> Tensor:
        weight16, bias16 = weight.bfloat16(), bias.bfloat16()
        # One product gives the gradients of weight and bias, as in chunked_cross_entropy.py.
        h16 = h.bfloat16()
        with_ones = F.pad(h16, (0, 1), value=1.0)  # [N, D + 1]
        loss = h.new_zeros((), dtype=torch.float32)
        d_h = torch.empty_like(h)
        d_both: Tensor | None = None
        for start in range(0, len(h), rows):
            g = _product(h16[start : start + rows], weight16, bias16)  # [R, V]
            loss += _loss_and_gradient(g, targets[start : start + rows], ignored, losses)
            d_h[start : start + rows] = _product(g, weight16.t())
            product = _product(with_ones[start : start + rows].t(), g.t())  # [D + 1, V]
            d_both = product.float() if d_both is None else d_both.add_(product)
            del g  # The next chunk's logits take its memory.
        assert d_both is not None
        ctx.save_for_backward(d_h, d_both)
        return loss
