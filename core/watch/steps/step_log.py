"""Writes the steps of a script once their values are read, with the evaluations and batches that belong to them."""

import sys
import weakref
from collections.abc import Callable
from dataclasses import replace

from torch.optim import Optimizer

from tui_lab.core.watch.batch.batches import Batches
from tui_lab.core.watch.batch.recorded_batch import Ids, RecordedBatch
from tui_lab.core.watch.evaluation.evaluation_recorder import EvaluationRecorder
from tui_lab.core.watch.model.class_names import class_names
from tui_lab.core.watch.optimizer.optimizers import steps_before
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer
from tui_lab.core.watch.run_log import RunLog
from tui_lab.core.watch.steps.open_step import OpenStep, StepValues
from tui_lab.core.watch.steps.step_queue import StepQueue
from tui_lab.core.watch.variables.library_progress import Progress, progress_of
from tui_lab.core.watch.variables.loop_progress import LoopProgress
from tui_lab.core.watch.variables.script_config import without_loop_variables
from tui_lab.core.watch.watched_script import WatchedScript

NOT_COUNTED = "the optimizer has trained before, and {name} does not count its steps: this run counts from 1"


class StepLog:
    """Add steps in order with `add`; `record` writes those that are ready. The first one starts the run."""

    def __init__(
        self,
        log: RunLog,
        script: WatchedScript,
        batches: Batches,
        evaluations: EvaluationRecorder,
        clock: Callable[[], float],
    ) -> None:
        self._log = log
        self._script = script
        self._batches = batches
        self._evaluations = evaluations
        self._queue = StepQueue(clock)
        self._progress: Progress | None = None
        """Of the training of `_began_by`."""
        self._n_begun = 0
        """The steps that this training has begun."""
        self._began_by: weakref.ref[Optimizer] | None = None
        """The optimizer that began the latest step."""
        self._is_numbered = False
        """Whether it is known which number the first step has."""
        self.latest_batch: RecordedBatch | None = None
        """The latest batch that was recorded."""

    @property
    def n_complete(self) -> int:
        """The number of the last complete step, recorded or not."""
        return self._log.n_steps + len(self._queue)

    @property
    def latest_x(self) -> Ids | None:
        """Token ids of the latest recorded batch, or of the present one if none is recorded: int64 [R, T]."""
        if self.latest_batch is not None:
            return self.latest_batch.x
        inputs = self._batches.inputs
        return inputs.x.cpu().numpy() if inputs is not None and inputs.x is not None and inputs.has_tokens else None

    def begin(self, optimizer: Optimizer) -> OpenStep:
        """Return the step that `optimizer` begins; the number of the first one continues its count."""
        self.number_from(optimizer)
        if self._began_by is None or self._began_by() is not optimizer:
            self._began_by = weakref.ref(optimizer)
            self._progress = progress_of(sys._getframe(), is_late=isinstance(optimizer, ManualOptimizer))
            self._n_begun = 0
        assert self._progress is not None
        self._n_begun += 1
        return OpenStep(self.n_complete, self._progress.epoch(sys._getframe()))

    def number_from(self, optimizer: Optimizer) -> None:
        """Continue the count of an optimizer, unless the run has begun or continues that of another one."""
        if self._is_numbered or self._log.is_started or self.n_complete:
            return
        n_before = steps_before(optimizer)
        self._is_numbered = n_before != 0  # A script may load its checkpoint later.
        if n_before is None:
            self._log.warn(NOT_COUNTED.format(name=type(optimizer).__name__))
        else:
            self._log.resume_after(n_before)

    def forget_batch(self) -> None:
        """Another model is trained from now on."""
        self.latest_batch = None

    def add(self, step: OpenStep) -> None:
        """Add a complete step."""
        self._queue.add(step)

    def record(self, *, wait: bool) -> None:
        """Record the steps whose values are there; with `wait` all of them."""
        for step, values in self._queue.take(wait=wait):
            self.start(step.script_lr)
            self._record_evaluations()
            self._log.step_done(step, values)
            self._record_batch(step, values)
        self._record_evaluations()

    def start(self, lr: float) -> None:
        """Start the run, unless it is started: write what is known of the script. lr: of the first step."""
        if self._log.is_started:
            return
        given = self._script.given
        namespaces = without_loop_variables(sys._getframe())
        discovered = self._script.discovered(lr, given.steps or self._steps_of_the_training())
        self._log.start(discovered, namespaces, given.tokenizer, given.settings)

    def _steps_of_the_training(self) -> int:
        """Return the number of the last step, 0 if it is not known."""
        steps = 0 if self._progress is None else self._progress.steps(sys._getframe(), self._n_begun)
        return steps + self._log.steps_before if isinstance(self._progress, LoopProgress) and steps else steps

    def validation(self, val_loss: float) -> None:
        """Record the script's own validation loss, instead of the mean of the evaluation that has just ended."""
        evaluation = self._evaluations.take_corrected(self._log.n_steps, val_loss)
        if evaluation is not None:
            self._log.evaluation(evaluation)
        else:
            self._log.validation(val_loss)

    def _record_evaluations(self) -> None:
        """Record the evaluations that took place after the steps that are recorded."""
        if self._log.is_started:
            for evaluation in self._evaluations.take(self._log.n_steps):
                self._log.evaluation(evaluation)

    def _record_batch(self, step: OpenStep, values: StepValues) -> None:
        if values.row_hashes is not None:
            self._batches.add_rows(step.number, values.row_hashes)
        if step.batch is not None:
            history = None if values.row_hashes is None else self._batches.history()
            self.latest_batch = self._named(step.batch)
            self._log.batch(self.latest_batch, history)

    def _named(self, batch: RecordedBatch) -> RecordedBatch:
        """Return the batch with the names of its classes, if it has classes."""
        if not batch.n_classes and batch.row_classes is None:
            return batch
        return replace(batch, class_names=class_names(self._script.model, batch.n_classes or self._script.n_vocab))
