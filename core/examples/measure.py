"""The loss and the likeliest token at every target of many examples, a few rows at a time."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED, Dataset

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]
Doubles = npt.NDArray[np.float64]
OnProgress = Callable[[str, int, int], None]
"""Called with the name of the work, how much is done, and how much there is."""

TOKENS_PER_BATCH = 4096
MOST_LOGITS = 2**24
"""Logits of one forward pass, at most: 64 MiB in float32. A single row may have more."""


def no_progress(what: str, done: int, total: int) -> None:
    """Report nothing."""


@dataclass(frozen=True)
class MeasuredRows:
    """Some rows. ids: [R]; x, y, predicted: int64 [R, T]; losses: nats [R, T], NaN where the target is ignored."""

    ids: Ids
    x: Ids
    y: Ids
    losses: Floats
    predicted: Ids

    @property
    def counted(self) -> Bools:
        """Where there is a target: [R, T]."""
        counted: Bools = self.y != IGNORED
        return counted

    @property
    def wrong(self) -> Bools:
        """Where the likeliest token is not the target: [R, T]; false where the target is ignored."""
        wrong: Bools = self.counted & (self.predicted != self.y)
        return wrong

    @property
    def mean_losses(self) -> Doubles:
        """Of each row, in nats per target: [R]; NaN for a row without targets, and where the model's loss is NaN."""
        counts = self.counted.sum(axis=1)
        means: Doubles = np.divide(self.loss_sums, counts, out=np.full(len(counts), np.nan), where=counts > 0)
        return means

    @property
    def loss_sums(self) -> Doubles:
        """Of each row, in nats: [R]."""
        sums: Doubles = np.where(self.counted, self.losses, 0.0).sum(axis=1, dtype=np.float64)
        return sums


@torch.no_grad()
def measure(
    model: Model, dataset: Dataset, ids: Ids, report: OnProgress = no_progress, what: str = "measuring"
) -> Iterator[MeasuredRows]:
    """Run the model over examples, in the order of `ids`. The model must be in evaluation mode.

    The forward pass is the model's own, in the kernels and the precision of its run. Memory is that of a batch.
    """
    device = next(model.parameters()).device
    T = dataset.length
    n_rows = max(1, min(TOKENS_PER_BATCH // T, MOST_LOGITS // (T * model.n_vocab)))
    for start in range(0, len(ids), n_rows):
        report(what, start * T, len(ids) * T)
        some = ids[start : start + n_rows]
        x, y = dataset.examples(some)
        logits = model(torch.from_numpy(np.ascontiguousarray(x)).to(device)).float()  # [R, T, V]
        targets = torch.from_numpy(np.ascontiguousarray(y)).to(device)
        losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
        losses = losses.view(targets.shape).masked_fill_(targets == IGNORED, torch.nan)  # [R, T]
        yield MeasuredRows(some, x, y, losses.cpu().numpy(), logits.argmax(dim=-1).cpu().numpy())
    report(what, len(ids) * T, len(ids) * T)
