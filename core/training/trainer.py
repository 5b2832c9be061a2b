"""The trainer: an iterator of events, controlled by a queue of commands.

`events` is the life of a run; `train_step` is one optimizer update.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch

from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.kernels.memory_estimate import check_memory, is_out_of_memory, out_of_memory_error
from tui_lab.core.kernels.precision import float32_products
from tui_lab.core.model import set_dropout
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.core.training.checkpoint import Checkpoint
from tui_lab.core.training.checkpointing import Checkpointing, Save
from tui_lab.core.training.compiled import with_compiled_loss
from tui_lab.core.training.control import TrainControl
from tui_lab.core.training.distributed import SINGLE_PROCESS, ProcessGroup
from tui_lab.core.training.evaluation import evaluate
from tui_lab.core.training.late_reading import LateReading, supports_late_reading
from tui_lab.core.training.loss_figures import running_mean
from tui_lab.core.training.loss_scale import LossScale, scaled_backward
from tui_lab.core.training.model_looks import ENDED, ModelLooks
from tui_lab.core.training.nonfinite_step import trace_overflow
from tui_lab.core.training.optim import set_weight_decay
from tui_lab.core.training.row_losses import RowRecorder
from tui_lab.core.training.setup import TrainSetup
from tui_lab.core.training.step_metrics import StepMetrics, step_done
from tui_lab.core.training.task_factory import LOADER_KEYS, change_loader
from tui_lab.core.training.train_step import NotFiniteError, Overflow, apply_gradients, check_finite
from tui_lab.core.training.update import Update, begin_update, compute_gradients
from tui_lab.core.training.update_rows import KeepRows
from tui_lab.util.errors import ConfigError, DataError


class Trainer:
    """Trains one model. Iterate over `events()` in one thread; put commands into `commands` from any thread.

    The state that a checkpoint keeps is `progress` (frozen, replaced at every step), the weights and the optimizer
    state. saved_step: the step of the checkpoint that a resumed run has on disk. clock: seconds. reads_late: whether
    `events` reads a loss only after the next update is queued, where it can; None: on a GPU.
    """

    def __init__(
        self,
        setup: TrainSetup,
        *,
        save: Save | None = None,
        keep_rows: KeepRows | None = None,
        saved_step: int | None = None,
        control: TrainControl | None = None,
        group: ProcessGroup = SINGLE_PROCESS,
        clock: Callable[[], float] = time.perf_counter,
        reads_late: bool | None = None,
    ) -> None:
        self.task = setup.task
        self.progress = setup.progress
        self.device = setup.device
        self.threads = setup.threads
        self.model = setup.model
        self.optimizers = setup.optimizers
        is_compiled = setup.progress.config.train.compile
        self.hooks = with_compiled_loss(setup.hooks, self.model) if is_compiled else setup.hooks
        self.resumed = setup.resumed
        self.loader = replace(setup.loader, share=(group.rank, group.size))
        self.group = group
        self.control = control or TrainControl()
        self.checkpointing = Checkpointing(
            save, best=setup.best, saved_step=saved_step, writes=group.rank == 0, clock=clock
        )
        self.row_recorder = RowRecorder(keep_rows, is_alone=group.size == 1)
        self.clock = clock
        self._best_is_restored = False
        self._looks = ModelLooks(self.model)
        wants_late = self.device.type == "cuda" if reads_late is None else reads_late
        self.late = LateReading(self) if wants_late and supports_late_reading(self) else None

    @property
    def config(self) -> Config:
        """The settings in force now, including live changes."""
        return self.progress.config

    @property
    def step(self) -> int:
        return self.progress.step

    @property
    def commands(self) -> cmd.CommandQueue:
        return self.control.commands

    @property
    def save_failed(self) -> bool:
        """Whether the last checkpoint could not be written."""
        return self.checkpointing.failed

    def events(self) -> Iterator[ev.Event]:
        """Train until the run is done, stopped or failed; the last event is Stopped or Failed.

        Raises ConfigError if the processes of the group do not have the same model.
        """
        try:
            yield from self._events()
        finally:
            self._looks.refuse_waiting()
            for command in self.control.drop_pending():
                cmd.refuse(command, ENDED)

    def _events(self) -> Iterator[ev.Event]:
        self.group.attach(self.model, self.hooks, self.config)
        yield self._started()
        with float32_products(self.config.train.precision, self.device):
            failure: _Failure | None = None
            try:
                while (reason := self._stop_reason()) is None:
                    yield from self._run_commands()
                    if self.control.paused or self._stop_reason() is not None:
                        continue  # The commands may have come after the last step.
                    if self._evaluation_due():
                        yield from self._evaluate()
                    elif self.checkpointing.is_due(self.step, self.config.train.checkpoint_every):
                        yield from self._save()
                    else:
                        yield from self._report([self.train_step()] if self.late is None else self.late.steps())
                yield from self._save(force=self.save_failed)
                yield ev.Stopped(step=self.step, reason=reason, restored=self._restore_best())
            except Exception as error:
                # Our own bugs are raised; errors of torch and of user models end the run with a message.
                if not (isinstance(error, RuntimeError | MemoryError) or self.config.model.source):
                    raise
                failure = _failure_of(error, self.config, self.task.tokenizer.n_vocab)
            # Outside of the handler, where the error no longer keeps the memory of its step alive.
            if failure is not None:
                self.model.zero_grad(set_to_none=True)
                yield from self.checkpointing.save_after_failure(self.step, self._state)
                if failure.overflow is not None:
                    yield from trace_overflow(self, failure.overflow)
                yield ev.Failed(step=self.step, message=failure.message)

    def _report(self, steps: Iterable[StepMetrics]) -> Iterator[ev.Event]:
        """Yield the events of updates as they are made."""
        for metrics in steps:
            yield step_done(self.progress, metrics)
            yield from self.row_recorder.warnings(self.step)
            self.control.count_step()

    def run_after_end(self, command: cmd.Command) -> Iterator[ev.Event]:
        """Run what still makes sense after the last event: Inspect, Snapshot, or Checkpoint after a failed save."""
        is_save = isinstance(command, cmd.Save) and self.save_failed
        if isinstance(command, cmd.Snapshot) and command.at_evaluation:
            cmd.refuse(command, ENDED)
        elif is_save or isinstance(command, cmd.Snapshot | cmd.Inspect):
            yield from self._execute(command)

    def train_step(self) -> StepMetrics:
        """Make one update.

        Raises NotFiniteError if the loss or the gradient is not finite; the weights are then unchanged.
        """
        update = begin_update(self, self.step)

        def backward(scale: float) -> tuple[float, float]:
            loss, grad_norm = torch.stack(compute_gradients(self, update, scale)).tolist()
            return loss, grad_norm

        loss, grad_norm, scale = scaled_backward(backward, self.model, self.progress.loss_scale)
        check_finite(update.step + 1, loss, grad_norm, update.lr, 1.0 if scale is None else scale.value)
        update.measurements.before_update()
        apply_gradients(self.hooks, self.optimizers, grad_norm, self.config.optim.grad_clip)
        update.measurements.after_update()
        return self.finish_update(update, loss, grad_norm, scale)

    def finish_update(self, update: Update, loss: float, grad_norm: float, scale: LossScale | None) -> StepMetrics:
        """Record an update that has been applied, and count it."""
        if update.rows is not None:
            is_alone = self.group.size == 1
            ids = update.batch.ids if is_alone else self.loader.drawn_between(update.step, update.step)
            self.row_recorder.record(update.step + 1, loss, ids, update.rows)
        metrics = StepMetrics(
            loss=loss,
            grad_norm=grad_norm,
            lr=update.lr,
            epoch=update.batch.epoch,
            tokens=self.loader.drawn * update.x.shape[1],
            data_seconds=update.data_seconds,
            **update.measurements.read(),
            seconds=max(0.0, self.clock() - update.started),  # A clock may be set back.
        )
        self.progress = replace(
            self.progress,
            step=update.step + 1,
            tokens=self.progress.tokens + metrics.tokens,
            seconds=self.progress.seconds + metrics.seconds,
            loss_ema=running_mean(self.progress.loss_ema, metrics.loss),
            loss_scale=None if scale is None else scale.after_step(),
        )
        return metrics

    def _started(self) -> ev.Started:
        return ev.Started(
            step=self.step,
            steps=self.config.train.steps,
            parameters=sum(p.numel() for p in self.model.parameters()),
            n_vocab=self.model.n_vocab,
            train_examples=self.task.train.n_examples,
            val_examples=self.task.val.n_examples,
            device=str(self.device) + (f" × {self.group.size} processes" if self.group.size > 1 else ""),
            threads=self.threads,
            resumed=self.resumed,
            faults=self.config.faults,
        )

    def _stop_reason(self) -> ev.StopReason | None:
        if self.control.stop_requested:
            return "stopped"
        train = self.config.train
        if train.patience and self.progress.worse_evaluations >= train.patience:
            return "patience"
        if self._evaluation_due() or self.control.has_pending:
            return None
        if self._target_reached():
            return "target"
        return "done" if self.step >= train.steps else None

    def _target_reached(self) -> bool:
        target = self.config.train.target_loss
        loss = self.progress.loss_ema
        return target > 0 and loss is not None and loss <= target

    def _evaluation_due(self) -> bool:
        every = self.config.train.eval_every
        step = self.step
        is_last = step >= self.config.train.steps or self._target_reached()
        return self.progress.evaluated_at != step and (is_last or (every > 0 and step > 0 and step % every == 0))

    def _run_commands(self) -> Iterator[ev.Event]:
        """Run the commands that have arrived; while paused, wait for the next one."""
        if self.late is not None and self.late.has_unread:
            if self.commands.empty():
                return
            # Before the commands are taken: they stay in the queue if the run fails here.
            yield from self._report(self.late.read())
        self.control.poll(self.group, wait=self.control.paused)
        while (command := self.control.next_command()) is not None:
            yield from self._execute(command)

    def _execute(self, command: cmd.Command) -> Iterator[ev.Event]:
        match command:
            case cmd.Pause():
                if self.control.pause():
                    yield ev.Paused(step=self.step)
            case cmd.Resume() | cmd.Step():
                if self.control.resume(command.n if isinstance(command, cmd.Step) else 0):
                    yield ev.Resumed(step=self.step)
            case cmd.Set() | cmd.Scale() | cmd.Shift() | cmd.Cycle() | cmd.Undo():
                yield from self.change(command)
            case cmd.Evaluate():
                yield from self._evaluate()
            case cmd.Save(keep):
                yield from self._save(force=True, by_hand=keep)
            case cmd.Snapshot():
                best_step = self.progress.best_step if self._best_is_restored else None
                yield from self._looks.copy(command, self.step, best_step)
            case cmd.Inspect():
                yield from self._looks.inspect(command, self.step)
            case cmd.Stop():
                self.control.request_stop()

    def change(self, command: cmd.Change) -> Iterator[ev.Event]:
        """Change a live setting, or warn why not; do nothing if it has that value already."""
        try:
            key, value = cmd.resolve(command, self.config, self.control.undo_stack)
            old = settings.get(self.config, key)
            config = settings.changed(self.config, key, value)
            if config.train.steps < self.step:  # Steps that are done stay.
                config = settings.changed(config, key, self.step)
            new = settings.get(config, key)
            if new == old:
                return
            self._apply_setting(key, config)
        except (ConfigError, DataError) as error:
            yield ev.Warned(step=self.step, message=str(error))
            return
        change = ev.Changed(step=self.step, key=key, old=old, new=new)
        self.control.record_change(change, undone=isinstance(command, cmd.Undo))
        yield change

    def _apply_setting(self, key: str, config: Config) -> None:
        """Put `config` into force, which differs in `key`. Raises ConfigError or DataError before anything changes."""
        loader = change_loader(self.loader, self.step, config) if key in LOADER_KEYS else self.loader
        check_memory(config, self.task.tokenizer.n_vocab, on_cpu=self.device.type == "cpu")
        self.loader = loader
        if key == "model.dropout":
            set_dropout(self.model, config.model.dropout)
        elif key == "optim.weight_decay":
            set_weight_decay(self.optimizers, config.optim.weight_decay)
        self.progress = replace(self.progress, config=config, from_step=loader.from_step, from_draw=loader.from_draw)
        self.checkpointing.mark_dirty()

    def _evaluate(self) -> Iterator[ev.Event]:
        """Validate and keep the best weights; do nothing if Stop arrives meanwhile."""
        limit = self.config.train.eval_examples
        result = evaluate(self.model, self.task, limit, self.device, stop=self._stop_arrived, group=self.group)
        if result is None:
            return
        before = self.progress
        step = self.step
        is_best = math.isfinite(result.loss) and (before.best_val_loss is None or result.loss < before.best_val_loss)
        is_new = before.evaluated_at != step
        since_best = 0 if is_best else before.worse_evaluations + is_new
        self.progress = replace(before, evaluated_at=step, worse_evaluations=since_best)
        if is_best:
            self.checkpointing.best = ckpt.copy_weights(self.model.state_dict())
            self.progress = replace(self.progress, best_val_loss=result.loss, best_step=step)
        self.checkpointing.mark_dirty()
        yield ev.Evaluated(
            step=step,
            val_loss=result.loss,
            exact_match=result.exact_match,
            perplexity=result.perplexity,
            examples=result.examples,
            best=is_best,
            since_best=since_best,
        )
        yield from self._looks.copy_waiting(step)
        if is_best:
            every = self.config.train.checkpoint_every
            seconds = self.progress.seconds
            yield from self.checkpointing.save_best(step, self._state, every=every, trained_seconds=seconds)

    def _stop_arrived(self) -> bool:
        self.control.poll(self.group)
        return self.control.stop_is_pending()

    def _save(self, *, force: bool = False, by_hand: bool = False) -> Iterator[ev.Event]:
        yield from self.checkpointing.save(self.step, self._state, force=force, by_hand=by_hand)

    def _state(self) -> Checkpoint:
        return Checkpoint(
            progress=self.progress,
            model=ckpt.copy_weights(self.model.state_dict()),
            optimizer=ckpt.optimizer_tensors(self.optimizers),
            best=self.checkpointing.best,
        )

    def _restore_best(self) -> int | None:
        """Put the best weights back into a model whose run may stop early, and return their step.

        Comes after the last checkpoint, so that the run can still be resumed from its last weights.
        """
        best = self.checkpointing.best
        if best is None or not self.config.train.patience or self.save_failed:
            return None
        ckpt.restore_model(self.model, best)
        self._best_is_restored = True
        return self.progress.best_step


@dataclass(frozen=True)
class _Failure:
    """Why training cannot continue. overflow: if the loss or the gradient is not finite."""

    message: str
    overflow: Overflow | None = None


def _failure_of(error: Exception, config: Config, n_vocab: int) -> _Failure:
    if is_out_of_memory(error):
        return _Failure(str(out_of_memory_error(config, n_vocab)))
    if isinstance(error, NotFiniteError):
        return _Failure(str(error), error.overflow)
    if isinstance(error, RuntimeError):
        return _Failure(str(error) or type(error).__name__)
    return _Failure(f"{config.model.source} raised {type(error).__name__}: {error}")
