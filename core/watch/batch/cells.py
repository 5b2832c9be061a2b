"""The loss and the likeliest tokens at each position of a batch, from what F.cross_entropy or F.nll_loss got."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from tui_lab.data.dataset import IGNORED

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
MAX_LOGITS = 2**24
"""Logits that are looked at, at most, but at least one row."""
MAX_CHUNK = 2**22
"""Logits that are converted to float32 at a time: 16 MiB."""


@dataclass(frozen=True)
class Cells:
    """The first rows of a batch, as in RecordedBatch.

    y: int64 [R, T], IGNORED where the loss skips the position. losses: nats [L, T] of the first L ≤ R rows, without
    label smoothing and class weights, NaN where ignored. top: ids [L, T, k], the likeliest first. probabilities:
    [L, T, k].
    """

    y: Ids
    losses: Floats
    top: Ids
    probabilities: Floats


@torch.no_grad()
def batch_cells(
    logits: Tensor,
    targets: Tensor,
    ignore_index: int,
    x_shape: Sequence[int],
    max_rows: int,
    k: int = 5,
    *,
    n_before: int = 0,
    are_log_probabilities: bool = False,
) -> Cells | None:
    """Return the cells of at most `max_rows` rows; None where the arguments are not tokens by positions.

    logits, targets: [B·T, V] and [B·T], [B, V, T] and [B, T], or the same with T−1 positions, whose last cell becomes
    an ignored one. x_shape: [B, T] or [T] of the model's x. n_before: positions of a row before the first target, as
    ignored ones; with it there may be one target a row. are_log_probabilities: the logits are those of nll_loss.
    Changes no tensor and draws no random number.
    """
    B, T = (1, *x_shape)[-2:] if 1 <= len(x_shape) <= 2 else (0, 0)
    n_positions = _positions(logits, targets, B, T - n_before)
    if n_positions is None or (n_positions == 1 and not n_before):  # One target a row is a class of the row.
        return None
    V = logits.shape[1]
    n_rows = min(B, max_rows)
    n_measured = min(n_rows, max(1, MAX_LOGITS // (n_positions * V)))
    y = targets.reshape(B, n_positions)[:n_rows].to(torch.int64)
    measured = [
        _measured(row_logits, row_targets, k, are_log_probabilities=are_log_probabilities)
        for row in range(n_measured)
        for row_logits, row_targets in _chunks(_row(logits, row, n_positions), y[row])
    ]
    losses, top, probabilities = (
        torch.cat(parts).reshape(n_measured, n_positions, *parts[0].shape[1:]) for parts in zip(*measured, strict=True)
    )
    ignored = y == ignore_index
    losses = losses.masked_fill(ignored[:n_measured], torch.nan)
    y = y.masked_fill(ignored, IGNORED)
    return _with_all_positions(y, losses, top, probabilities, (n_before, T - n_before - n_positions))


def _with_all_positions(
    y: Tensor, losses: Tensor, top: Tensor, probabilities: Tensor, around: tuple[int, int]
) -> Cells:
    """Return the cells with ignored positions `around` those that have targets."""
    return Cells(
        y=F.pad(y, around, value=IGNORED).cpu().numpy(),
        losses=F.pad(losses, around, value=torch.nan).cpu().numpy(),
        top=F.pad(top, (0, 0, *around)).cpu().numpy(),
        probabilities=F.pad(probabilities, (0, 0, *around)).cpu().numpy(),
    )


def _positions(logits: Tensor, targets: Tensor, B: int, T: int) -> int | None:
    """Return how many positions of a row have a target, T or T−1; None for other shapes and for class probabilities."""
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool or B == 0:
        return None
    if logits.dim() == 2 and targets.dim() == 1 and len(logits) == len(targets) and len(targets) % B == 0:
        n_positions = len(targets) // B
    elif logits.dim() == 3 and targets.dim() == 2 and targets.shape == (B, logits.shape[2]) and len(logits) == B:
        n_positions = logits.shape[2]
    else:
        return None
    return n_positions if n_positions in (T, T - 1) and n_positions > 0 and logits.shape[1] > 1 else None


def _row(logits: Tensor, row: int, n_positions: int) -> Tensor:
    """Return the logits [n_positions, V] of one row."""
    return logits[row].T if logits.dim() == 3 else logits[row * n_positions : (row + 1) * n_positions]


def _chunks(logits: Tensor, targets: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Split one row's logits [T, V] and targets [T], so that little memory is needed at a time."""
    size = max(1, MAX_CHUNK // logits.shape[1])
    return list(zip(torch.split(logits, size), torch.split(targets, size), strict=True))


def _measured(logits: Tensor, targets: Tensor, k: int, *, are_log_probabilities: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return losses [t], the likeliest ids [t, k] and their probabilities [t, k], for logits [t, V], targets [t]."""
    logits = logits.detach().float()
    log_sum = logits.logsumexp(dim=-1, keepdim=True)  # [t, 1]
    if are_log_probabilities:
        log_sum = torch.zeros_like(log_sum)
    valid_targets = targets.clamp(0, logits.shape[-1] - 1)[:, None]
    losses = (log_sum - logits.gather(-1, valid_targets))[:, 0]
    top = logits.topk(min(k, logits.shape[-1]))
    return losses, top.indices, (top.values - log_sum).exp()
