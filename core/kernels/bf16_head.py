"""The head and the cross-entropy with bfloat16 products, one chunk of rows at a time.

The mathematics is that of chunked_cross_entropy.py. The logits of a chunk and their gradient are bfloat16. Softmax,
loss and the sums over chunks are float32, as under torch.autocast.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tui_lab.core.kernels.chunked_cross_entropy import SMALLEST_EXACT
from tui_lab.core.kernels.linear import onednn_available, onednn_linear

SOFTMAX_BYTES = 2**21
"""Bytes of float32 probabilities at once, so that they stay in the processor's cache between the passes over them."""


def bf16_loss_sum(h: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, ignored: int, rows: int) -> Tensor:
    """Sum the cross-entropy in nats, `rows` rows at a time.

    h [N, D], weight [V, D], bias [V], targets int64 [N] → float32 []; targets equal to `ignored` do not count.
    """
    if torch.is_grad_enabled():
        loss: Tensor = _Bf16HeadLoss.apply(h, weight, bias, targets, ignored, rows)  # type: ignore[no-untyped-call]
        return loss
    h, weight, bias = h.bfloat16(), weight.bfloat16(), bias.bfloat16()
    parts = zip(torch.split(h, rows), torch.split(targets, rows), strict=True)
    return torch.stack([_losses(_product(part, weight, bias), t, ignored).sum() for part, t in parts]).sum()


def _product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return a bᵀ + bias: bfloat16 a [M, K], b [N, K], bias [N] → [M, N]."""
    # F.linear copies the bias into the result first, which for the logits is a sixth of its time.
    return onednn_linear(a, b, bias) if a.device.type == "cpu" and onednn_available() else F.linear(a, b, bias)


def _losses(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Return −ln p of each row in float32: logits [R, V] → [R]."""
    return F.cross_entropy(logits.float(), targets, ignore_index=ignored, reduction="none")


def _replace_by_gradient(logits: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Return the summed loss of the rows, [], and replace the logits [R, V] by its gradient with respect to them."""
    total = logits.new_zeros((), dtype=torch.float32)
    on_cpu = logits.device.type == "cpu"
    rows = max(1, SOFTMAX_BYTES // (4 * logits.shape[1])) if on_cpu else len(logits)
    buffer = logits.new_empty((min(rows, len(logits)), logits.shape[1]), dtype=torch.float32)
    for part, part_targets in zip(torch.split(logits, rows), torch.split(targets, rows), strict=True):
        p = buffer[: len(part)].copy_(part)
        torch.softmax(p, dim=1, out=p)
        counted = part_targets != ignored  # [R]
        at = part_targets.where(counted, 0)[:, None]  # [R, 1]
        p_target = p.gather(1, at)[:, 0]  # [R]
        losses = -p_target.log()
        if bool((imprecise := ~(p_target >= SMALLEST_EXACT)).any()):
            losses[imprecise] = _losses(part[imprecise], part_targets[imprecise], ignored)
        total += losses.where(counted, 0.0).sum()
        p.scatter_add_(1, at, torch.full_like(at, -1.0, dtype=p.dtype))
        if not bool(counted.all()):
            p.mul_(counted[:, None])
        part.copy_(p)
    return total


class _Bf16HeadLoss(torch.autograd.Function):
    """Computes the gradients together with the loss; backward only scales them."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, ignored: int, rows: int) -> Tensor:
        weight16, bias16 = weight.bfloat16(), bias.bfloat16()
        # A column of ones: one product then gives the gradients of weight and bias, as in chunked_cross_entropy.py.
        h16 = h.bfloat16()
        with_ones = F.pad(h16, (0, 1), value=1.0)  # [N, D + 1]
        loss = h.new_zeros((), dtype=torch.float32)
        d_h = torch.empty_like(h)
        d_both: Tensor | None = None
        for start in range(0, len(h), rows):
            g = _product(h16[start : start + rows], weight16, bias16)  # [R, V]
            loss += _replace_by_gradient(g, targets[start : start + rows], ignored)
            d_h[start : start + rows] = _product(g, weight16.t())
            product = _product(with_ones[start : start + rows].t(), g.t())  # [D + 1, V]
            d_both = product.float() if d_both is None else d_both.add_(product)
        assert d_both is not None
        ctx.save_for_backward(d_h, d_both)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        d_h, d_both = ctx.saved_tensors
        transposed = d_both[:-1]
        d_weight = torch.mul(transposed.t(), g, out=transposed.new_empty(transposed.shape[::-1]))  # Contiguous.
        return d_h * g, d_weight, d_both[-1] * g, None, None, None
