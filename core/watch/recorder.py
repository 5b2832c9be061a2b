"""The recorder: turns what the hooks see of a script into steps and evaluations of a run."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.batch.batches import Batches
from tui_lab.core.watch.evaluation.evaluation_recorder import EvaluationRecorder
from tui_lab.core.watch.evaluation.trainer_hooks import TrainerHooks
from tui_lab.core.watch.hooks import OF_CLASSES, counted_targets
from tui_lab.core.watch.last_state import LastState
from tui_lab.core.watch.model.model_calls import is_sharded
from tui_lab.core.watch.model.model_search import ModelFinder, inputs_of
from tui_lab.core.watch.model.training_mode import TrainingMode
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer, UpdatesByHand
from tui_lab.core.watch.run_log import RunLog
from tui_lab.core.watch.script_hooks import ScriptHooks
from tui_lab.core.watch.steering.steering import Steering
from tui_lab.core.watch.steps.measurements import Measurements
from tui_lab.core.watch.steps.nonfinite_report import NonFiniteReport
from tui_lab.core.watch.steps.open_step import OpenStep, Pending
from tui_lab.core.watch.steps.step_clock import StepClock
from tui_lab.core.watch.steps.step_log import StepLog
from tui_lab.core.watch.steps.values import scalar_of
from tui_lab.core.watch.watched_script import Given, WatchedScript

MANY_SKIPPED = 20
"""Steps in a row that GradScaler skips: from its usual scale of 65,536, the scale has then fallen far below 1."""


class Recorder:
    """Listens to the hooks. boundary: called between two steps, when commands may run.

    is_awaited: () → whether a command waits for the end of the step, such as a pause: the user then looks at its batch.
    optimizer_stepped: called after each step of an optimizer, whether it is recorded or not.

    A step becomes an event when the next one begins or later: its values are read then, so that a GPU need not wait.
    """

    def __init__(
        self,
        log: RunLog,
        boundary: Callable[["Recorder"], None],
        given: Given | None = None,
        clock: Callable[[], float] = time.perf_counter,
        *,
        is_awaited: Callable[[], bool] = lambda: False,
        optimizer_stepped: Callable[["Recorder"], None] = lambda recorder: None,
    ) -> None:
        self.log = log
        self.steering = Steering()
        self.hooks = ScriptHooks(self)
        self.script = WatchedScript(given or Given(), ModelFinder(self.hooks))
        self.script.watch_given_model()
        self.batches = Batches(clock, is_awaited)
        self.clock = StepClock(clock)
        self._evaluations = EvaluationRecorder()
        self.steps = StepLog(log, self.script, self.batches, self._evaluations, clock)
        self._trainer = TrainerHooks(self.hooks, self.script, self._evaluations, self.steps, self.end_step)
        self._boundary = boundary
        self._optimizer_stepped = optimizer_stepped
        self._now = clock
        self._measurements = Measurements(clock)
        self.non_finite = NonFiniteReport(
            log, self.script, self.end_step, lambda: self.steps.n_complete, self.clock.pause
        )
        self._pending = Pending()
        self._mode = TrainingMode()
        self.by_hand = UpdatesByHand()
        self.last_state = LastState(log.run.checkpoints)
        self._open: OpenStep | None = None
        self.is_stepping = False
        """Whether an optimizer changes the weights at this moment."""
        self._losses_inside = 0
        self._n_skipped = 0
        self._n_skipped_in_a_row = 0

    # What the hooks see

    def criterion(self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """A loss: of training if it has gradients and the model trains in this mode, otherwise of an evaluation."""
        is_reduced = output.dim() == 0
        is_training = output.requires_grad and not self._mode.is_evaluating
        if not is_reduced and not is_training:  # How its values are averaged is not seen.
            return
        self._look_for_update(output)
        n_samples = int(targets.shape[0]) if targets.dim() else 1
        self.script.loss_called(name, logits, targets)
        if not is_training:
            if self.script.finder.model is not None and not self._evaluations.has_called:
                return
            self.clock.evaluation()
            self._trainer.look()
            is_sum = options.get("reduction", "mean") == "sum"
            n_targets = counted_targets(name, targets, options)
            self._evaluations.criterion(logits, output, n_targets, is_sum=is_sum, is_cross_entropy=name in OF_CLASSES)
            return
        self._training()
        if is_reduced:
            self._pending.criterion = output
            self.non_finite.watch.criterion(name, logits, targets, options)
        if not self.script.finder.is_active and not self.script.optimizers.present:
            self.script.batch_seen(self.batches.first_loss(logits))
        self.batches.criterion(name, logits, targets, options)
        self.script.is_time_first = self.batches.is_time_first
        if not self.script.finder.is_active:  # Before the model is known, the targets tell the size of the batch.
            self._pending.n_tokens += targets.numel()
            self._pending.n_samples += n_samples

    def backward(self, loss: Tensor) -> None:
        self._look_for_update(loss)
        if self._mode.backward():
            self._evaluations.discard()
        self._training()
        if not self.by_hand.is_off:
            began = self._now()
            by_hand = self.by_hand.backward(loss)
            self.clock.exclude(self._now() - began)
            if by_hand is not None:
                self._begin_training(by_hand)
        self._losses_inside += self.is_stepping
        if self._losses_inside > 1:  # LBFGS evaluates the loss again and again; the first one is that of the step.
            return
        pending = self._pending
        if pending.unscaled is not None and pending.unscaled[1] is loss:
            loss = pending.unscaled[0]
        value = pending.losses.add(loss, pending.criterion)
        self.non_finite.watch.backward(loss, value, is_scaled=pending.unscaled is not None)
        pending.criterion = None
        pending.unscaled = None

    def after_backward(self) -> None:
        if not self.by_hand.is_off:
            self.by_hand.after_backward()
        self.non_finite.watch.after_backward()

    def before_clip(self) -> None:
        self._measurements.before_clip(self.script.model)

    def clipped(self, norm: Tensor, max_norm: float) -> None:
        if not self.by_hand.is_off:
            self.by_hand.look_at_gradients()
        self.script.grad_clip = float(max_norm)
        self.steering.has_clipped = True
        if not is_sharded(norm):
            value = scalar_of(norm)
            self._pending.norms.append(value)
            self.non_finite.watch.clipped(value)

    def scaled(self, loss: Tensor, scaled_loss: Tensor, scale: Tensor | None) -> None:
        self._pending.unscaled = (loss, scaled_loss)
        self._pending.loss_scale = scale

    def skipped(self) -> None:
        """The gradients were not finite, so there is no step, and its losses do not belong to the next one."""
        self._n_skipped += 1
        self.non_finite.watch.skipped(self._pending.loss_scale)
        self._measurements.skipped()
        self._pending = Pending()
        self.batches.end_step(self.steps.n_complete, 0)
        self._n_skipped_in_a_row += 1
        if self._n_skipped == 1:
            self.log.warn(
                "GradScaler skipped a step: a gradient was not finite. It tries again with a smaller loss scale"
            )
        if self._n_skipped_in_a_row == MANY_SKIPPED:
            self.log.warn(
                f"GradScaler has skipped {MANY_SKIPPED} steps in a row, so that no weight has changed since step "
                f"{self.steps.n_complete}"
            )

    def waited(self, seconds: float) -> None:
        if not self.clock.is_evaluating:
            self._pending.data_seconds += seconds

    def before_step(self, optimizer: Optimizer) -> None:
        is_by_hand = isinstance(optimizer, ManualOptimizer)
        if not (is_by_hand or self.by_hand.is_off):
            self.by_hand.turn_off()
        if not self.script.watches(optimizer):
            return
        self._training()
        self._n_skipped_in_a_row = 0
        if self._open is not None and (optimizer in self._open.stepped or self._open.is_ended(self.script.optimizers)):
            self._end_cycle(self._open, wait=False)
        step = self._open = self._open or self.steps.begin(optimizer)
        is_first = not step.stepped
        if self.script.optimizers.add(optimizer) and is_first and not is_by_hand:
            self._begin_training(optimizer)
        if is_first:
            step.script_lr = float(optimizer.param_groups[0]["lr"])
            self._mode.stepped(self.script.finder.likely_model)
            if not is_by_hand:  # The weights of that one have changed already.
                self._measurements.before_step(optimizer, self.script.finder.likely_model)
        self.steering.before_step(optimizer)
        step.lrs += [float(group["lr"]) for group in optimizer.param_groups]
        self.is_stepping = True
        self._losses_inside = 0

    def after_step(self, optimizer: Optimizer) -> None:
        self.steering.after_step()
        if not self.script.watches(optimizer):  # What led to this step is not recorded.
            self._pending = Pending()
            self.batches.end_step(self.steps.n_complete, 0)
        elif self._open is not None and self.is_stepping:
            self.is_stepping = False
            self._attach(self._open, optimizer)
            self.last_state.updated(self.script.model, optimizer)
            if self._open.is_ended(self.script.optimizers):
                self._boundary(self)
        if not isinstance(optimizer, ManualOptimizer):
            self._optimizer_stepped(self)

    def failed(self, hook: str, error: Exception) -> None:
        if hook in ("before_step", "after_step"):
            self.steering.release()
            self.hooks.max_norm = None
        effect = "this measurement is off; the script continues"
        self.log.warn(f"internal error in the recorder ({hook}): {effect}: {error!r}")

    def training_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model is called with gradients."""
        was_evaluating = self._mode.is_evaluating
        self._mode.called(module)
        if self._mode.is_evaluating:
            if not was_evaluating:  # What was seen without gradients counts, also if a backward pass follows this call.
                self._finish_evaluation()
            self.evaluation_call(module, args, kwargs)
            return
        self._look_for_update()
        self._evaluations.interrupted(module)
        self._training()
        self._measurements.forward(module)
        inputs = inputs_of(args, kwargs)
        self.non_finite.watch.called(module, args, kwargs, inputs)
        self.batches.forward(inputs)
        if inputs.x is None:
            return
        self.script.model_called(args, kwargs, inputs)
        self._pending.n_calls += 1
        self._pending.n_samples += int(inputs.x.shape[0]) if inputs.x.dim() else 1
        self._pending.n_tokens += inputs.x.numel() if inputs.has_tokens else 0

    def evaluation_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model, or a further module of its class, is called, but not for training."""
        if module is not self.script.finder.model:
            self._evaluations.other_called(lambda: self.script.is_trained(module))
            return
        self._look_for_update()
        self.clock.evaluation()
        self._evaluations.called(module, args, kwargs)

    def model_output(self, output: Any) -> None:
        """The model returned `output`, with gradients if they are enabled."""
        if torch.is_grad_enabled() and not self._mode.is_evaluating:
            self.batches.returned(output)
        else:
            self._evaluations.returned(output, is_cross_entropy=self.script.n_vocab > 0)

    # One step

    def _look_for_update(self, loss: Tensor | None = None) -> None:
        """Record a step if the script has changed its weights without an optimizer. loss: the next one, if known."""
        if not self.by_hand.is_off and (optimizer := self.by_hand.update(loss)) is not None:
            self.before_step(optimizer)
            self.after_step(optimizer)

    def _training(self) -> None:
        """Training continues, so an evaluation ends."""
        if self.clock.training():
            self._finish_evaluation()

    def _finish_evaluation(self) -> None:
        has_open_step = self._open is not None and bool(self._open.stepped)
        self._evaluations.finish(self.steps.n_complete + has_open_step)

    def _begin_training(self, optimizer: Optimizer) -> None:
        """Another training begins with this optimizer: look for its model."""
        began = self._now()
        self._trainer.look()
        self.steps.forget_batch()
        self.last_state.forget()
        self.script.find_model_of(optimizer)
        self.clock.exclude(self._now() - began)

    def _end_cycle(self, step: OpenStep, *, wait: bool) -> None:
        """The open step is complete: its latest optimizer is the one that ends a step."""
        is_first = not self.script.optimizers.has_last
        self.script.optimizers.set_last(step.stepped.latest)
        self.close_step(wait=wait)
        if is_first:  # Commands have waited until it was known where a step ends.
            self._boundary(self)

    def _attach(self, step: OpenStep, optimizer: Optimizer) -> None:
        """Move what has happened since the last optimizer step into `step`."""
        pending = self._pending
        self._pending = Pending()
        self.non_finite.watch.end_step()
        is_first = not step.stepped
        step.stepped.add(optimizer)
        step.take(pending)
        if is_first:
            self._measurements.after_step(step, has_norm=bool(pending.norms))
            step.row_hashes, step.batch = self.batches.end_step(step.number, max(1, pending.losses.n))
        seconds = self.clock.optimizer_stepped()
        # When the first step began is not known: the model was not known before its end.
        if step.number > self.log.steps_before:
            step.seconds += seconds

    # What others ask for

    def end_step(self) -> None:
        """Record the open step if it is complete, before what the script logs after it."""
        if self.script.given.optimizers:  # What is logged before the first step has its number, too.
            self.steps.number_from(self.script.given.optimizers[0])
        step = self._open
        if step is None or not step.stepped or self.is_stepping:
            return
        if not self.script.optimizers.has_last or step.is_ended(self.script.optimizers):
            self._end_cycle(step, wait=True)

    def close_step(self, *, wait: bool) -> None:
        """End the open step, and record the steps whose values are there; with `wait` all of them."""
        step = self._open
        self._open = None
        if step is not None and step.stepped:
            step.add_extra(has_lr_factor=self.steering.lr_factor != 1.0, n_skipped=self._n_skipped)
            step.count_as(self._pending)
            self.steps.add(step)
        self.steps.record(wait=wait)

    def validation(self, val_loss: float) -> None:
        """Record the script's own validation loss, instead of the mean of the evaluation that has just ended."""
        self.end_step()
        self._finish_evaluation()
        self.steps.validation(val_loss)

    def finish(self) -> None:
        """Remove the hooks, record what is left, and give the script its own values back."""
        if (last := self.by_hand.update()) is not None:
            self.before_step(last)
            self.is_stepping = False
            if self._open is not None:
                self._attach(self._open, last)
        self.hooks.remove()
        self.script.finder.remove()
        self._finish_evaluation()
        self.close_step(wait=True)
        self.steering.release()
        self.non_finite.flush()
