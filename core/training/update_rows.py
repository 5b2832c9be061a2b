"""What is kept of the rows of one update. Without torch, so that reading it is fast."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class UpdateRows:
    """The rows of one update, those of all processes, in the order of the batch.

    step: as StepDone.step. loss: of the whole batch, as recorded. ids: [B]. sums: nats of each row [B], the sum over
    its targets as the update computed it. targets: [B] how many of a row's targets are not ignored, exact in float32.
    """

    step: int
    loss: float
    ids: Ids
    sums: Floats
    targets: Floats


KeepRows = Callable[[UpdateRows], OSError | None]
"""Writes the rows of an update; returns why it could not."""
