"""The losses of the rows of one update: collected while the gradients are computed, and handed to the run folder."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from tui_lab.core import events as ev
from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses
from tui_lab.core.kernels.device import HostCopy
from tui_lab.core.training.update_rows import Floats, Ids, KeepRows, UpdateRows
from tui_lab.data.dataset import IGNORED
from tui_lab.util.files import advice


class RowLosses:
    """Gets the losses of the rows of one update from `backward`.

    n_rows: of the whole batch, of all processes.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows
        self._losses: list[HostCopy] = []
        self._y: HostCopy | None = None
        self._device = torch.device("cpu")
        self.whole: Tensor | None = None
        """Sums and targets of the whole batch, float32 [2, B], if several processes have put their rows together."""

    def set(self, losses: TargetLosses, y: Tensor) -> None:
        """Take the losses of all targets of this process, in order: [B·T] together; y int64 [B, T]."""
        self._losses = [HostCopy(part) for part in losses]
        self._y = HostCopy(y)
        self._device = y.device
        self.whole = None

    def table(self) -> Floats:
        """Return sums and targets of the rows that were taken last, float32 [2, B]."""
        if self.whole is not None:
            return self.whole.cpu().numpy()
        # In numpy: for a small model, five more small tensor operations are a hundredth of a step.
        assert self._y is not None
        y = self._y.read()
        table = np.zeros((2, len(y)), dtype=np.float32)
        np.not_equal(y.numpy(), IGNORED).sum(axis=1, out=table[1])
        if len(y):
            losses = [part.read() for part in self._losses]
            flat = losses[0] if len(losses) == 1 else torch.cat(losses)
            # A row of losses may be shorter than T where a planted fault drops targets.
            flat.float().numpy().reshape(len(y), -1).sum(axis=1, out=table[0])
        return table

    def spread(self, rank: int, size: int) -> Tensor:
        """Return the table of the whole batch, zero but for this rank's rows.

        Row i of the batch is that of rank i modulo `size`, so the sum over the ranks has all rows.
        """
        whole = torch.zeros(2, self._n_rows)
        whole[:, rank::size] = torch.from_numpy(self.table())
        return whole.to(self._device)


class RowRecorder:
    """Passes the rows of each update to `keep`. After its first failure, training continues without them."""

    def __init__(self, keep: KeepRows | None, *, is_alone: bool) -> None:
        self._keep = keep
        self._is_alone = is_alone
        self._failure: OSError | None = None

    def collector(self, is_on: bool, n_rows: int) -> RowLosses | None:
        """Return what collects the rows of the next update, or None where nobody keeps them.

        is_on: the setting train.row_losses. n_rows: of the batch. All processes of a group collect, since they exchange
        messages of one size.
        """
        return RowLosses(n_rows) if is_on and (self._keep is not None or not self._is_alone) else None

    def record(self, step: int, loss: float, ids: Ids, rows: RowLosses) -> None:
        """Hand over the rows of an update."""
        if self._keep is None:
            return
        sums, targets = rows.table()
        self._failure = self._keep(UpdateRows(step, loss, ids, sums, targets))
        if self._failure is not None:
            self._keep = None

    def warnings(self, step: int) -> Iterator[ev.Warned]:
        """Yield a warning once, when the rows could not be written."""
        if self._failure is not None:
            message = f"the losses of the rows are not kept from here on: {advice(self._failure)}"
            self._failure = None
            yield ev.Warned(step=step, message=message)
