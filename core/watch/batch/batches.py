"""Collects the batch of a step: x, y, the losses of its cells, and which rows came before."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tui_lab.core.watch.batch.cells import Cells, batch_cells
from tui_lab.core.watch.batch.ids_in_graph import ids_in_graph
from tui_lab.core.watch.batch.masked_places import MaskedPlaces, masked_places
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch, RowHistory
from tui_lab.core.watch.batch.row_memory import RowCopy, RowHasher, RowMemory
from tui_lab.core.watch.batch.target_places import TargetPlaces, target_places
from tui_lab.core.watch.batch.token_log_probs import next_targets, token_log_probs, token_losses
from tui_lab.core.watch.hooks import OF_CLASSES
from tui_lab.core.watch.model.model_search import Inputs
from tui_lab.core.watch.steps.budget import Budget
from tui_lab.data.dataset import IGNORED

MAX_ROWS = 64
"""Rows of x and y that are recorded."""
MAX_CELL_ROWS = 8
"""Rows whose cells are measured."""
MAX_HELD_BYTES = 2**22
"""Of logits that are held until the end of a step, in case that a pause is asked for meanwhile."""
SECONDS_BETWEEN_BATCHES = 1.0
Ids = npt.NDArray[np.int64]


class HeldLogits(NamedTuple):
    """What a loss function got. version: that of the tensor, which counts its changes in place."""

    values: Tensor
    version: int
    is_log: bool

    @classmethod
    def of(cls, logits: Tensor, *, is_log: bool) -> "HeldLogits | None":
        """Hold logits; None if they take too much memory."""
        if type(logits) is not Tensor or logits.untyped_storage().nbytes() > MAX_HELD_BYTES:
            return None
        return cls(logits.detach(), logits._version, is_log)

    @property
    def are_unchanged(self) -> bool:
        return self.values._version == self.version


class Batches:
    """Call `forward` and `criterion` as they happen in a step, then `end_step`.

    is_awaited: () → whether the batch of this step is to be recorded in any case.
    """

    def __init__(self, clock: Callable[[], float], is_awaited: Callable[[], bool]) -> None:
        self._clock = clock
        self._is_awaited = is_awaited
        self._budget = Budget(clock=clock)
        self._hasher = RowHasher()
        self._memory = RowMemory()
        self._taken_at = float("-inf")
        self._inputs: Inputs | None = None
        self._targets: Tensor | None = None
        self._ignore_index: int | None = None
        self._places: TargetPlaces | None = None
        self._masked: MaskedPlaces | None = None
        self._cells: Cells | None = None
        self._held: HeldLogits | None = None
        """Of a step whose batch is not recorded so far."""
        self._log_probs: Tensor | None = None
        """Of the targets, [B, T-1], where the model returned them instead of logits."""
        self._n_logits = 0
        """The number of classes among which the loss of the step chooses; 0: unknown."""
        self._has_classes = False
        """Whether an id was beyond the logits, so that the targets are classes and not tokens."""
        self._is_recorded = False
        """Whether the batch of the current step is recorded."""
        self._is_incomplete = False
        """Whether the latest inputs are only the ids in the graph of the loss; then the next batch is recorded, too."""
        self.is_time_first = False
        """Whether x is [T, B]: as the targets of the latest recorded batch show it."""
        self.always = False
        """Record every batch: while the user goes step by step."""

    @property
    def inputs(self) -> Inputs | None:
        """The inputs of the first micro-batch of the current step."""
        return self._inputs

    def forward(self, inputs: Inputs) -> None:
        """The model was called with `inputs` for training; only the first call of a step counts."""
        if self._inputs is None:
            self._inputs = inputs
            self._is_recorded = self._is_incomplete or self._is_due()
            self._is_incomplete = False

    def returned(self, output: Any) -> None:
        """The model returned `output` for training; only that of the first call of a step counts."""
        if self._log_probs is None and self._inputs is not None and self._inputs.has_named_y:
            self._log_probs = token_log_probs(output, self._inputs.y)

    def first_loss(self, logits: Tensor) -> Inputs | None:
        """Look for the inputs of a step whose model is not known yet, before its `criterion`; None if not found."""
        if self._inputs is None and self._targets is None and (x := ids_in_graph(logits)) is not None:
            self.forward(Inputs(x, None))
            self._is_incomplete = True
        return self._inputs

    def criterion(self, name: str, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """The loss function was called for training; only the first call of a step counts."""
        if self._targets is not None:
            return
        self._targets = targets.detach() if targets.requires_grad else targets
        self._ignore_index = int(options.get("ignore_index", -100))
        x = self._inputs.x if self._inputs is not None and self._inputs.has_tokens else None
        if name not in OF_CLASSES or x is None:
            return
        self._n_logits = int(logits.shape[1]) if logits.dim() > 1 else 0
        if self._is_recorded:
            self._measure(x, self._targets, logits.detach(), is_log=name == "nll_loss")
        else:
            self._held = HeldLogits.of(logits, is_log=name == "nll_loss")

    def _measure(self, x: Tensor, targets: Tensor, logits: Tensor | None, *, is_log: bool) -> None:
        """Find the places of the targets, and measure the cells if there are logits."""
        with self._budget.spend(), torch.no_grad():
            self._places = target_places(x, logits, targets)
            if self._places is None and self._inputs is not None:
                self._masked = masked_places(x, targets, self._inputs.others)
            self.is_time_first = self._places is not None and self._places.is_time_first
            if logits is not None:
                self._cells = self._measured_cells(logits, targets, is_log=is_log)

    def _measured_cells(self, logits: Tensor, targets: Tensor, *, is_log: bool) -> Cells | None:
        """Return the cells of the first rows; None where it is not known which position a target belongs to."""
        places = self._places
        if places is None:
            return self._masked_cells(logits, targets, is_log=is_log)
        shape = (places.B, places.T)
        if places.is_time_first or places.first:
            if logits.dim() != 2 or len(logits) != targets.numel():
                return None
            logits = places.rows(logits)[:MAX_CELL_ROWS]
            shape = (len(logits), places.T)
            logits = logits.flatten(0, 1)
            targets = places.rows(targets)[:MAX_CELL_ROWS].flatten()
        return batch_cells(
            logits,
            targets,
            self._skipped_target,
            shape,
            MAX_CELL_ROWS,
            n_before=places.first,
            are_log_probabilities=is_log,
        )

    def _masked_cells(self, logits: Tensor, targets: Tensor, *, is_log: bool) -> Cells | None:
        """Return the cells of the first rows, if the model is given the masked positions."""
        masked = self._masked
        if masked is None:
            return None
        shape = masked.positions.shape
        cells = batch_cells(logits, targets, self._skipped_target, shape, MAX_CELL_ROWS, are_log_probabilities=is_log)
        if cells is None:
            return None
        return Cells(
            y=masked.spread(cells.y, IGNORED),
            losses=masked.spread(cells.losses, np.nan),
            top=masked.spread(cells.top, 0),
            probabilities=masked.spread(cells.probabilities, 0.0),
        )

    def end_step(self, step: int, micro_batches: int) -> tuple[Tensor | RowCopy | None, RecordedBatch | None]:
        """End the step, counted from 0: the hashes of the rows of x, see RowHasher, and the batch if it is due.

        Tensors are copied now: a script may use their memory again.
        """
        inputs = self._inputs
        hashes: Tensor | RowCopy | None = None
        batch = None
        if inputs is not None and inputs.x is not None:
            if not self._is_recorded and self._is_awaited():
                self._record_late(inputs)
            x = self._rows_of(inputs.x) if inputs.has_tokens else inputs.x
            hashes = self._hasher.hashes(x)
            if self._is_recorded:
                with self._budget.spend():
                    batch = self._recorded(step, micro_batches, inputs, x)
                self._taken_at = self._clock()
        self._inputs = None
        self._targets = None
        self._places = None
        self._masked = None
        self._cells = None
        self._held = None
        self._log_probs = None
        self._n_logits = 0
        return hashes, batch

    def _record_late(self, inputs: Inputs) -> None:
        """Record the batch of this step after all: a command has arrived after the call of the model."""
        self._is_recorded = True
        if inputs.x is None or not inputs.has_tokens or self._targets is None:
            return
        held = self._held
        logits = held.values if held is not None and held.are_unchanged else None
        self._measure(inputs.x, self._targets, logits, is_log=held is not None and held.is_log)

    def add_rows(self, step: int, row_hashes: list[int]) -> None:
        """Remember the rows with these hashes; call it once for every step, in order."""
        self._memory.add(step, row_hashes)

    def history(self) -> RowHistory:
        """Return what was known of the rows of the latest `add_rows` before it."""
        return self._memory.history()

    def _rows_of(self, ids: Tensor) -> Tensor:
        """Return ids as [B, T]."""
        return ids.t() if self.is_time_first else ids

    def _is_due(self) -> bool:
        if self.always or self._is_awaited():
            return True
        return self._clock() - self._taken_at >= SECONDS_BETWEEN_BATCHES and self._budget.allows()

    def _recorded(self, step: int, micro_batches: int, inputs: Inputs, x: Tensor) -> RecordedBatch:
        cells = self._cells
        x_ids = _ids(x) if inputs.has_tokens else None
        y = None if x_ids is None else self._recorded_targets(x, x_ids.shape[0])
        losses = None if cells is None else cells.losses
        if y is not None and self._targets is None and self._log_probs is not None:
            y = next_targets(y)
            losses = token_losses(self._log_probs[:MAX_CELL_ROWS], y[:MAX_CELL_ROWS])
        is_given = inputs.y is not None and self._masked is None and (y is not None or self._targets is None)
        targets = inputs.y if is_given else self._targets
        self._has_classes |= x_ids is not None and 0 < self._n_logits <= x_ids.max(initial=0)
        return RecordedBatch(
            step=step,
            n_rows=int(x.shape[0]),
            micro_batches=micro_batches,
            x_shape=_shape(x if inputs.x is None else inputs.x),
            y_shape="" if targets is None else self._shape_by_positions(targets),
            x=x_ids,
            y=y,
            losses=losses,
            top=None if cells is None else cells.top,
            probabilities=None if cells is None else cells.probabilities,
            history=None,
            n_classes=self._n_logits if self._has_classes else 0,
            row_classes=None if x_ids is None else self._row_classes(x),
            ignore_index=self._skipped_target,
        )

    @property
    def _skipped_target(self) -> int:
        """The target that the loss skips: that of the loss function, or torch's default."""
        return -100 if self._ignore_index is None else self._ignore_index

    def _shape_by_positions(self, targets: Tensor) -> str:
        """Return the shape of targets; of those that a view made flat for the loss, the one before."""
        places = self._places
        if places is None or places.n == 1 or targets.dim() != 1 or targets.numel() != places.B * places.n:
            return _shape(targets)
        return _shape(targets.view((places.n, places.B) if places.is_time_first else (places.B, places.n)))

    def _row_classes(self, x: Tensor) -> Ids | None:
        """Return the target of each of the first rows of x [B, T] if there is one for the whole row."""
        targets = self._targets
        if self._n_logits == 0 or targets is None or self._places is not None or self._masked is not None:
            return None
        is_class = targets.shape == (x.shape[0],) and not targets.is_floating_point()
        return _with_ignored(targets, self._ignore_index) if is_class else None

    def _recorded_targets(self, x: Tensor, n_rows: int) -> Ids | None:
        """Return the targets of the first rows, as the loss saw them or else as the model was given them."""
        seen = self._targets
        places = self._places
        if seen is not None and places is not None:
            rows = _with_ignored(places.rows(seen)[:n_rows], self._ignore_index)
            around = (places.first, places.T - places.first - places.n)
            return np.pad(rows, ((0, 0), around), constant_values=IGNORED)
        if seen is not None and self._masked is not None:
            rows = _with_ignored(seen.reshape(self._masked.positions.shape)[:n_rows], self._ignore_index)
            return self._masked.spread(rows, IGNORED)
        given = self._given_targets()
        given = None if given is None or given.dim() != 2 else self._rows_of(given)
        if given is not None and given.shape == x.shape and not given.is_floating_point():
            return _with_ignored(given[:n_rows], -100)
        return None

    def _given_targets(self) -> Tensor | None:
        """Return the targets that the model was given.

        These are what is named so, or any further ids where no loss function was seen.

        Where the loss function got other targets, further ids may be those of segments, as BERT's.
        """
        if self._inputs is None or (self._targets is not None and not self._inputs.has_named_y):
            return None
        return self._inputs.y


def _ids(tensor: Tensor) -> Ids:
    ids: Ids = tensor.detach()[:MAX_ROWS].to("cpu", torch.int64).numpy().copy()
    return ids


def _with_ignored(targets: Tensor, ignore_index: int | None) -> Ids:
    ids = _ids(targets)
    # A target that is not an id is ignored, also where it differs from ignore_index.
    ids[(ids == ignore_index) | (ids < 0)] = IGNORED
    return ids


def _shape(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
