"""The losses of the examples that the batch pane shows, measured on the model of the run."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tui_lab.app.session.inspector import Inspector
from tui_lab.core import commands as cmd
from tui_lab.data.loader import Batch

if TYPE_CHECKING:
    from tui_lab.core.inference.example import CellLosses
    from tui_lab.core.user_code.external_model import Model

TIME_SHARE = 0.005
"""Fraction of the training time for measuring."""
SECONDS_BETWEEN_MEASUREMENTS = 0.25
SECONDS_TO_WAIT = 10.0
"""How long a batch is kept for its losses to arrive."""
SECONDS_TO_READ = 3.0
"""How long a batch is kept once its losses are shown."""


@dataclass(frozen=True)
class Measurement:
    """The losses of rows of a batch, measured when the model had made `model_step` steps."""

    batch: Batch
    model_step: int
    losses: "Mapping[int, CellLosses]"


class BatchLosses:
    """Measures rows of one batch at a time: call `start` for each batch, then `request` and `take` regularly."""

    def __init__(self, send: Callable[[cmd.Command], None]) -> None:
        self._inspector: Inspector[Measurement] = Inspector(send, share=TIME_SHARE)
        self._batch: Batch | None = None
        self._losses: dict[int, CellLosses] = {}
        self.model_step = -1
        """How many steps the model had made whose losses are shown; -1 if there are none."""
        self.weights: cmd.WeightsInfo | None = None
        """With which saved weights the losses are measured; None: with the model that trains, or there are none yet."""
        self.problem = ""
        """Why there are no losses, if it is known."""
        self.kept_until = -math.inf
        """Until when the batch should stay, for its losses to arrive or to be read."""

    def start(self, batch: Batch) -> None:
        """Measure another batch from now on."""
        self._batch = batch
        self._losses = {}
        self.model_step = -1
        self.kept_until = -math.inf

    def of(self, row: int) -> "CellLosses | None":
        """Return the losses of a row; None until they are measured."""
        return self._losses.get(row)

    def measure_soon(self) -> None:
        """Let the next request pass at once."""
        self._inspector.reset()

    def checkpoint_saved(self) -> None:
        """Measure at once where only the lack of a checkpoint was in the way."""
        if self.problem:
            self.problem = ""
            self.measure_soon()

    def request(self, rows: Sequence[int], model_step: int, now: float, *, following: bool) -> None:
        """Measure rows that are not measured yet, or if the run stands, were measured on older weights.

        now: seconds. following: whether the model trains and the batch changes with it.
        """
        batch = self._batch
        measured = all(row in self._losses for row in rows)
        if batch is None or not rows or (measured and (following or self.model_step == model_step)):
            return

        def measure(model: "Model") -> Measurement:
            from tui_lab.core.inference.example import row_losses

            chosen = list(rows)
            losses = row_losses(model, batch.x[chosen], batch.y[chosen])
            return Measurement(batch, model_step, dict(zip(rows, losses, strict=True)))

        key = (batch.step, tuple(rows), None if following else model_step)
        n_requests = self._inspector.n_requests
        self._inspector.request(key, measure, now, min_pause=SECONDS_BETWEEN_MEASUREMENTS, running=following)
        if self._inspector.n_requests > n_requests and not self.problem:
            self.kept_until = now + SECONDS_TO_WAIT

    def take(self, now: float) -> bool:
        """Take what was measured since the last call; return whether it is about the batch."""
        is_new = False
        if problem := self._inspector.refused():
            self.kept_until = -math.inf
            is_new = problem != self.problem
            self.problem = problem
        for inspection in self._inspector.drain():
            self.problem = ""
            measurement = inspection.result
            if measurement.batch is not self._batch:
                continue
            model = (measurement.model_step, inspection.weights)
            if model != (self.model_step, self.weights):  # Losses of one model are shown together.
                self._losses = {}
                self.model_step, self.weights = model
            self._losses |= measurement.losses
            self.kept_until = now + SECONDS_TO_READ
            is_new = True
        return is_new
