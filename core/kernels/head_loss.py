"""The head and its loss: the kernel for a vocabulary size, a precision, a device and a version of torch."""

import torch
from torch import Tensor
from torch.nn import functional as F

from tui_lab.core.config.schema import CHUNK_FROM_VOCAB
from tui_lab.core.kernels.bf16_head import bf16_loss_sum
from tui_lab.core.kernels.blas_head import blas_loss_sum
from tui_lab.core.kernels.chunked_cross_entropy import (
    TargetLosses,
    cross_entropy_sum,
    onednn_loss_sum,
)
from tui_lab.core.kernels.linear import Kernels, linear
from tui_lab.core.kernels.precision import autocast
from tui_lab.data.dataset import IGNORED


def head_loss_sum(
    h: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, kernels: Kernels, losses: TargetLosses | None = None
) -> Tensor:
    """Sum the cross-entropy in nats: h [N, D], weight [V, D], bias [V], targets [N] → float32 [].

    losses: gets the loss of each target.
    """
    rows = kernels.head_rows
    if len(weight) >= CHUNK_FROM_VOCAB:
        if kernels.precision == "bf16":
            return bf16_loss_sum(h, weight, bias, targets, IGNORED, rows, losses)
        if kernels.precision == "fp32" and kernels.engine == "onednn" and _is_float32_on_cpu(h):
            return onednn_loss_sum(h, weight, bias, targets, IGNORED, rows, losses)
    with autocast(kernels.precision, h.device):
        if len(weight) < CHUNK_FROM_VOCAB:
            return cross_entropy_sum(linear(h, weight, bias, kernels.engine), targets, losses=losses)
        return _torch_loss_sum(h, weight, bias, targets, kernels, losses)


def _is_float32_on_cpu(h: Tensor) -> bool:
    return h.dtype == torch.float32 and h.device.type == "cpu"


def _torch_loss_sum(
    h: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, kernels: Kernels, losses: TargetLosses | None
) -> Tensor:
    """Sum the cross-entropy in nats with torch's own operators, in chunks of rows."""
    rows = kernels.head_rows
    if not torch.is_grad_enabled():
        # The chunked kernel prepares gradients ahead; without them a plain loop over the rows is enough.
        parts = zip(torch.split(h, rows), torch.split(targets, rows), strict=True)
        return torch.stack(
            [cross_entropy_sum(F.linear(part, weight, bias), t, losses=losses) for part, t in parts]
        ).sum()
    # New in torch 2.13. Its gradients are computed before the loss is scaled, so it is not for float16.
    if kernels.precision != "fp32":
        return _recomputed_loss_sum(h, weight, bias, targets, rows, losses)
    return blas_loss_sum(h, weight, bias, targets, IGNORED, rows, losses)


def _recomputed_loss_sum(
    h: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, rows: int, losses: TargetLosses | None
) -> Tensor:
    """Sum the cross-entropy in nats, `rows` rows at a time. The backward pass computes each chunk's logits again."""
    from torch.utils.checkpoint import checkpoint

    def chunk_loss(part: Tensor, part_targets: Tensor) -> tuple[Tensor, Tensor | None]:
        of_targets: TargetLosses | None = None if losses is None else []
        total = cross_entropy_sum(F.linear(part, weight, bias), part_targets, losses=of_targets)
        return total, of_targets[0] if of_targets else None

    parts = [
        checkpoint(chunk_loss, part, part_targets, use_reentrant=False, preserve_rng_state=False)
        for part, part_targets in zip(torch.split(h, rows), torch.split(targets, rows), strict=True)
    ]
    if losses is not None:
        losses += [of_targets for _, of_targets in parts]
    return torch.stack([total for total, _ in parts]).sum()
