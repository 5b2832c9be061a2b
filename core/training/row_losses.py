"""The losses of the rows of one update: collected while the gradients are computed, and handed to the run folder."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core import events as ev
from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses
from tui_lab.core.training.update_rows import Ids, KeepRows, UpdateRows
from tui_lab.data.dataset import IGNORED
from tui_lab.util.files import advice


class RowLosses:
    """Gets the losses of the rows of one update from `backward`. table: sums and targets, float32 [2, B].

    n_rows: of the whole batch, of all processes.
    """

    table: Tensor

    def __init__(self, n_rows: int) -> None:
        self._n_rows = n_rows

    def set(self, losses: TargetLosses, y: Tensor) -> None:
        """Take the losses of all targets, in order: [B·T] together; y int64 [B, T]."""
        targets = (y != IGNORED).sum(dim=1, dtype=torch.float32)  # [B]
        if len(y):
            flat = losses[0] if len(losses) == 1 else torch.cat(losses)
            # A row of losses may be shorter than T where a planted fault drops targets.
            self.table = torch.stack((flat.float().view(len(y), -1).sum(dim=1), targets))
        else:
            self.table = torch.stack((targets, targets))

    def spread(self, rank: int, size: int) -> Tensor:
        """Return the table of the whole batch, zero but for this rank's rows.

        Row i of the batch is that of rank i modulo `size`, so the sum over the ranks has all rows.
        """
        whole = self.table.new_zeros(2, self._n_rows)
        whole[:, rank::size] = self.table
        return whole


class RowRecorder:
    """Hands the rows of each update to `keep`, until that fails once: training goes on without them."""

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
        sums, targets = rows.table.cpu().numpy()
        self._failure = self._keep(UpdateRows(step, loss, ids, sums, targets))
        if self._failure is not None:
            self._keep = None

    def warnings(self, step: int) -> Iterator[ev.Warned]:
        """Yield a warning once, when the rows could not be written."""
        if self._failure is not None:
            message = f"the losses of the rows are not kept from here on: {advice(self._failure)}"
            self._failure = None
            yield ev.Warned(step=step, message=message)
