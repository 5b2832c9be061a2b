"""The head and the cross-entropy in float32 with torch's operators, one chunk of rows at a time.

The operators are those of torch.nn.functional.linear_cross_entropy (torch 2.13, its policy "compact", which it chooses
for float32), in the same order, so loss and gradients are bit for bit the same. That function does not return the loss
of each target beside the sum; and older versions of torch do not have it. The mathematics is that of
chunked_cross_entropy.py.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses


def blas_loss_sum(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    ignored: int,
    rows: int,
    losses: TargetLosses | None = None,
) -> Tensor:
    """Sum the cross-entropy in nats, `rows` rows at a time, with gradients.

    h float32 [N, D], weight [V, D], bias [V], targets int64 [N] → []; targets equal to `ignored` do not count.
    """
    loss: Tensor = _BlasHeadLoss.apply(h, weight, bias, targets, ignored, rows, losses)  # type: ignore[no-untyped-call]
    return loss


class _BlasHeadLoss(torch.autograd.Function):
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
        counted = targets != ignored  # [N]
        at = torch.where(counted, targets, 0)
        minus_one = counted.to(h.dtype).neg_()  # [N]: −1, or 0 where the target is ignored.
        buffer = h.new_empty(min(rows, len(h)), len(weight))
        loss = h.new_zeros(())
        gradients = (torch.empty_like(h), torch.zeros_like(weight), torch.zeros_like(bias))
        for start in range(0, len(h), len(buffer)):
            part = slice(start, start + len(buffer))
            logits = buffer[: len(h[part])]  # [R, V]
            torch.mm(h[part], weight.T, out=logits).add_(bias)
            logits.sub_(logits.amax(dim=1, keepdim=True))
            target_logits = logits.gather(1, at[part, None]).squeeze(1)  # [R]
            loss.add_(minus_one[part].dot(target_logits))
            denominator = logits.exp_().sum(1)  # [R]
            torch.mul(logits, (minus_one[part] / denominator).unsqueeze(1), out=logits)  # −softmax, 0 where ignored.
            log_denominator = denominator.log_()
            loss.sub_(minus_one[part].dot(log_denominator))
            if losses is not None:
                losses.append((target_logits - log_denominator).mul_(minus_one[part]))
            _add_gradients(gradients, part, h[part], weight, at[part], minus_one[part], logits)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        d_h, d_weight, d_bias = ctx.saved_tensors
        return d_h.mul_(g), d_weight.mul_(g), d_bias.mul_(g), None, None, None, None


def _add_gradients(
    gradients: tuple[Tensor, Tensor, Tensor],
    part: slice,
    h: Tensor,
    weight: Tensor,
    at: Tensor,
    minus_one: Tensor,
    minus_p: Tensor,
) -> None:
    """Add a chunk's gradients to those of h, the weight and the bias, computed as (p − 1 at the target)."""
    d_h, d_weight, d_bias = gradients
    d_bias.sub_(minus_p.sum(dim=0)).index_add_(0, at, minus_one)
    chunk = d_h[part]
    torch.mul(weight.index_select(0, at), minus_one.unsqueeze(1), out=chunk)
    torch.addmm(chunk, minus_p, weight, alpha=-1, out=chunk)
    d_weight.addmm_(minus_p.T, h, alpha=-1)
    d_weight.index_add_(0, at, h * minus_one.unsqueeze(1))
