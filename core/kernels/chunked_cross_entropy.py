"""The head and the cross-entropy together, one chunk of rows at a time, so that the logits are never all in memory.

With p = softmax(h Wᵀ + b), and G = p minus one at each target, the gradients of Σ −ln p[y] are dh = G W, dW = Gᵀ h,
db = Σ G (Goodfellow et al. 2016, section 6.2.2). They are computed with the chunk's logits and overwrite them, as
Wijmans et al. 2024 ("Cut your losses") do on a GPU, and as torch's linear_cross_entropy does with BLAS only.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from tui_lab.core.kernels.linear import onednn_linear
from tui_lab.core.kernels.precision import widened
from tui_lab.data.dataset import IGNORED

TargetLosses = list[Tensor]
"""Where a loss function puts the loss of each target, in nats and in order, in one or more tensors [n]; 0 where the
target is ignored. They are those that it sums, without a gradient."""
SMALLEST_EXACT = 1e-30
"""Smaller probabilities lose digits in float32 (its smallest normal number is 1.2e-38); their −ln p is computed from
the logits."""


def cross_entropy_sum(
    logits: Tensor, targets: Tensor, ignored: int = IGNORED, losses: TargetLosses | None = None
) -> Tensor:
    """Return the sum in nats over the targets that are not `ignored`: logits [..., V], targets int64 [...] → []."""
    rows = widened(logits).flatten(0, -2)
    targets = targets.flatten()
    if losses is None:
        return F.cross_entropy(rows, targets, ignore_index=ignored, reduction="sum")
    # The two operators that F.cross_entropy calls, so that the sum is the same number.
    log_p = rows.log_softmax(dim=1)
    losses.append(F.nll_loss(log_p.detach(), targets, ignore_index=ignored, reduction="none"))
    return F.nll_loss(log_p, targets, ignore_index=ignored, reduction="sum")


def onednn_loss_sum(
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    ignored: int,
    rows: int,
    losses: TargetLosses | None = None,
) -> Tensor:
    """Sum the cross-entropy in nats with oneDNN, `rows` rows at a time.

    h float32 [N, D], weight [V, D], bias [V], targets int64 [N] → []; targets equal to `ignored` do not count.
    """
    if torch.is_grad_enabled():
        loss: Tensor = _OneDnnHeadLoss.apply(  # type: ignore[no-untyped-call]
            h, weight, bias, targets, ignored, rows, losses
        )
        return loss
    parts = zip(torch.split(h, rows), torch.split(targets, rows), strict=True)
    return sum_and_keep([_losses(part, weight, bias, t, ignored) for part, t in parts], losses)


def sum_and_keep(parts: list[Tensor], losses: TargetLosses | None) -> Tensor:
    """Return the sum of the losses of all parts, and append them to `losses` if it is given."""
    if losses is not None:
        losses += [part.detach() for part in parts]
    return torch.stack([part.sum() for part in parts]).sum()


def _losses(h: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, ignored: int) -> Tensor:
    """Return −ln p of each row, computed from its logits: [R]."""
    return F.cross_entropy(onednn_linear(h, weight, bias), targets, ignore_index=ignored, reduction="none")


def replace_by_gradient(
    logits: Tensor, targets: Tensor, ignored: int, exact_losses: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return each row's loss [R], 0 if its target is ignored, and replace the logits by the gradient of their sum.

    logits: float32 [R, V]. exact_losses: bool [R] → the losses of these rows, computed from their logits.
    """
    probabilities = torch.softmax(logits, dim=1, out=logits)
    counted = targets != ignored  # [R]
    at = targets.where(counted, 0)[:, None]  # [R, 1]
    p = probabilities.gather(1, at)[:, 0].where(counted, 1.0)
    losses = -p.log()
    if bool((imprecise := ~(p >= SMALLEST_EXACT)).any()):
        losses[imprecise] = exact_losses(imprecise)
    probabilities.scatter_add_(1, at, torch.full_like(at, -1.0, dtype=probabilities.dtype))
    if not bool(counted.all()):
        probabilities.mul_(counted[:, None])
    return losses


class HeadLoss(torch.autograd.Function):
    """Base of losses whose forward pass computes the gradients as well.

    It saves that of h [N, D] and, with that of the weight transposed above that of the bias, [D + 1, V]; backward only
    scales them.
    """

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        d_h, d_both = ctx.saved_tensors
        transposed = d_both[:-1]
        d_weight = torch.mul(transposed.t(), g, out=transposed.new_empty(transposed.shape[::-1]))  # Contiguous.
        return d_h * g, d_weight, d_both[-1] * g, None, None, None, None


class _OneDnnHeadLoss(HeadLoss):
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
        loss = h.new_zeros(())
        d_h = torch.empty_like(h)
        # One product gives both gradients, with a column of ones appended to h:
        #     [h 1]ᵀ [D + 1, R] · G [R, V] = [D + 1, V]: dWᵀ [D, V] above db [1, V]
        # dW is computed transposed because the large operand G is then read in its memory order.
        d_both: Tensor | None = None
        for start in range(0, len(h), rows):
            part = h[start : start + rows]  # [R, D]
            part_targets = targets[start : start + rows]
            g = onednn_linear(part, weight, bias)  # [R, V]

            def exact_losses(mask: Tensor, part: Tensor = part, part_targets: Tensor = part_targets) -> Tensor:
                return _losses(part[mask], weight, bias, part_targets[mask], ignored)

            part_losses = replace_by_gradient(g, part_targets, ignored, exact_losses)
            loss += part_losses.sum()
            if losses is not None:
                losses.append(part_losses)
            d_h[start : start + rows] = onednn_linear(g, weight.t())
            product = onednn_linear(F.pad(part, (0, 1), value=1.0).t(), g.t())
            d_both = product if d_both is None else d_both.add_(product)
            del g  # The next chunk's logits take its memory.
        assert d_both is not None
        ctx.save_for_backward(d_h, d_both)
        return loss
