"""The recorder: turns what the hooks see of a script into steps and evaluations of a run."""

import sys
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.watch.batches import Batches
from tui_lab.core.watch.evaluation_recorder import EvaluationRecorder
from tui_lab.core.watch.hooks import TorchHooks
from tui_lab.core.watch.measurements import Measurements
from tui_lab.core.watch.model_calls import CallForm, call_form, is_sharded
from tui_lab.core.watch.model_search import Inputs, ModelFinder, inputs_of
from tui_lab.core.watch.recorded_batch import Ids
from tui_lab.core.watch.run_log import RunLog
from tui_lab.core.watch.script_config import Discovered, user_namespaces
from tui_lab.core.watch.script_tokenizer import ScriptTokenizer
from tui_lab.core.watch.steering import Steering
from tui_lab.core.watch.step_clock import StepClock
from tui_lab.core.watch.step_queue import StepQueue
from tui_lab.core.watch.steps import OpenStep, Pending, StepValues


@dataclass
class Given:
    """What the script passed to `tui_lab.watch`; the rest is found. optimizers: empty: any. steps: 0: unknown."""

    model: nn.Module | None = None
    optimizers: tuple[Optimizer, ...] = ()
    tokenizer: ScriptTokenizer | None = None
    settings: Mapping[str, Any] | None = None
    steps: int = 0


class Recorder:
    """Listens to the hooks. boundary: called between two steps, when commands may run.

    A step becomes an event when the next one begins or later: its values are read then, so that a GPU need not wait.
    """

    def __init__(
        self,
        log: RunLog,
        boundary: Callable[[], None],
        given: Given | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.log = log
        self.given = given or Given()
        self.steering = Steering()
        self.hooks = TorchHooks(self)
        self.finder = ModelFinder(self._called, self._returned)
        self.batches = Batches(clock)
        self.clock = StepClock(clock)
        self._optimizers: list[weakref.ref[Optimizer]] = []
        self.form: CallForm | None = None
        self._last_x: Ids | None = None
        """The rows of x of the latest recorded batch."""
        self._boundary = boundary
        self._now = clock
        self._measurements = Measurements(clock)
        self._evaluations = EvaluationRecorder()
        self._pending = Pending()
        self._open: OpenStep | None = None
        self._queue = StepQueue(clock)
        self._last_optimizer: weakref.ref[Optimizer] | None = None
        """The one that ends a step; None until the first step is complete."""
        self._is_stepping = False
        self._losses_inside = 0
        self._first_inputs: Inputs | None = None
        self._n_vocab = 0
        self._grad_clip = 0.0
        self._n_skipped = 0

    # What the hooks see

    def criterion(self, name: str, output: Tensor, logits: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        """A loss: of training if it has gradients, otherwise of an evaluation."""
        n_samples = int(targets.shape[0]) if targets.dim() else 1
        is_cross_entropy = name == "cross_entropy"
        if is_cross_entropy and logits.dim() >= 2 and not targets.is_floating_point():
            self._n_vocab = max(self._n_vocab, int(logits.shape[1]))
        if not output.requires_grad:
            if self.finder.model is not None and not self._evaluations.has_called:
                return
            self.clock.evaluation()
            self._evaluations.criterion(output, is_cross_entropy=is_cross_entropy)
            return
        self._training()
        self._pending.criterion = output
        self.batches.criterion(name, logits, targets, options)
        if not self.finder.is_active:  # Before the model is known, the targets tell the size of the batch.
            self._pending.n_tokens += targets.numel()
            self._pending.n_samples += n_samples

    def backward(self, loss: Tensor) -> None:
        self._training()
        self._losses_inside += self._is_stepping
        if self._losses_inside > 1:  # LBFGS evaluates the loss again and again; the first one is that of the step.
            return
        pending = self._pending
        if pending.unscaled is not None and pending.unscaled[1] is loss:
            loss = pending.unscaled[0]
        pending.losses.add(loss, pending.criterion)
        pending.criterion = None
        pending.unscaled = None

    def clipped(self, norm: Tensor, wanted: float) -> None:
        self._grad_clip = float(wanted)
        self.steering.has_clipped = True
        if not is_sharded(norm):
            self._pending.norms.append(norm.detach())

    def scaled(self, loss: Tensor, scaled_loss: Tensor, scale: Tensor | None) -> None:
        self._pending.unscaled = (loss, scaled_loss)
        self._pending.loss_scale = scale

    def skipped(self) -> None:
        """The gradients were not finite, so there is no step, and its losses do not belong to the next one."""
        self._n_skipped += 1
        self._pending = Pending()
        self.batches.end_step(self.n_complete, 0)
        if self._n_skipped == 1:
            self.log.warn(
                "GradScaler skipped a step: a gradient was not finite. It tries again with a smaller loss scale"
            )

    def waited(self, seconds: float) -> None:
        if not self.clock.is_evaluating:
            self._pending.data_seconds += seconds

    def before_step(self, optimizer: Optimizer) -> None:
        if not self._is_watched(optimizer):
            return
        self._training()
        if self._open is not None and (self._open.has_stepped(optimizer) or self._is_last(self._open)):
            self._end_cycle(self._open.optimizers[-1], wait=False)
        step = self._open = self._open or OpenStep(self.n_complete)
        self._register(optimizer, is_first=not step.optimizers)
        if not step.optimizers:
            step.script_lr = float(optimizer.param_groups[0]["lr"])
            self._measurements.before_step(optimizer, self.finder.likely_model)
        self.steering.before_step(optimizer)
        step.lrs += [float(group["lr"]) for group in optimizer.param_groups]
        self._is_stepping = True
        self._losses_inside = 0

    def after_step(self, optimizer: Optimizer) -> None:
        self.steering.after_step()
        if not self._is_watched(optimizer):  # What led to this step is not recorded.
            self._pending = Pending()
            self.batches.end_step(self.n_complete, 0)
            return
        step = self._open
        if step is None or not self._is_stepping:
            return
        self._is_stepping = False
        self._attach(step, optimizer)
        if self._is_last(step):
            self._boundary()

    def failed(self, hook: str, error: Exception) -> None:
        if hook in ("before_step", "after_step"):
            self.steering.release()
            self.hooks.max_norm = None
        self.log.warn(f"recording ({hook}) stopped after an error, and the script continues: {error!r}")

    # Calls of the model

    def _called(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        if self.hooks.listens():
            self.hooks.tell("training_call" if torch.is_grad_enabled() else "evaluation_call", module, args, kwargs)

    def _returned(self, module: nn.Module, output: Any) -> None:
        if self.hooks.listens():
            self.hooks.tell("evaluation_output", output)

    def training_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model is called with gradients."""
        self._evaluations.interrupted()
        self._training()
        self._measurements.forward(module)
        inputs = inputs_of(args, kwargs)
        self.batches.forward(inputs)
        if inputs.x is None:
            return
        if self._first_inputs is None:
            self._first_inputs = inputs
        if self.form is None and inputs.has_tokens:
            self.form = call_form(args, kwargs, inputs)
        self._pending.n_samples += int(inputs.x.shape[0]) if inputs.x.dim() else 1
        self._pending.n_tokens += inputs.x.numel() if inputs.has_tokens else 0

    def evaluation_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model is called without gradients."""
        self.clock.evaluation()
        self._evaluations.called(args, kwargs)

    def evaluation_output(self, output: Any) -> None:
        """The model returned `output` without gradients."""
        self._evaluations.returned(output, is_cross_entropy=self._n_vocab > 0)

    # One step

    def _training(self) -> None:
        """Training continues, so an evaluation ends."""
        if self.clock.training():
            self._finish_evaluation()

    def _finish_evaluation(self) -> None:
        has_open_step = self._open is not None and bool(self._open.optimizers)
        self._evaluations.finish(self.n_complete + has_open_step)

    def _end_cycle(self, last: Optimizer, *, wait: bool) -> None:
        """The open step is complete: `last` was the last optimizer in it."""
        is_first = self._last_optimizer is None
        self._last_optimizer = weakref.ref(last)
        self.close_step(wait=wait)
        if is_first:  # Commands have waited until it was known where a step ends.
            self._boundary()

    def end_step(self) -> None:
        """Record the open step if it is complete, before what the script logs after it."""
        step = self._open
        if step is None or not step.optimizers or self._is_stepping:
            return
        if self._last_optimizer is None or self._is_last(step):
            self._end_cycle(step.optimizers[-1], wait=True)

    def validation(self, val_loss: float) -> None:
        """Record the script's own validation loss, instead of the mean of the evaluation that has just ended."""
        self.end_step()
        self._finish_evaluation()
        evaluation = self._evaluations.take_corrected(self.log.n_steps, val_loss)
        if evaluation is not None:
            self.log.evaluation(evaluation)
        else:
            self.log.validation(val_loss)

    @property
    def optimizers(self) -> list[Optimizer]:
        """Those that have stepped, in that order, and that the script still has."""
        return [optimizer for ref in self._optimizers if (optimizer := ref()) is not None]

    def _is_last(self, step: OpenStep) -> bool:
        """Whether the optimizer that stepped last is the one that ends a step."""
        last = None if self._last_optimizer is None else self._last_optimizer()
        return last is not None and bool(step.optimizers) and step.optimizers[-1] is last

    def _register(self, optimizer: Optimizer, *, is_first: bool) -> None:
        """Note an optimizer. If it is new and the first in its step, another training begins: look for its model."""
        optimizers = self.optimizers
        if any(optimizer is other for other in optimizers):
            return
        self._optimizers = [weakref.ref(other) for other in [*optimizers, optimizer]]
        if is_first:
            began = self._now()
            self.form = None
            self._last_x = None
            self.finder.search([optimizer], self.given.model)
            self.clock.exclude(self._now() - began)

    def _attach(self, step: OpenStep, optimizer: Optimizer) -> None:
        """Move what has happened since the last optimizer step into `step`."""
        pending = self._pending
        self._pending = Pending()
        is_first = not step.optimizers
        step.optimizers.append(optimizer)
        if not pending.losses.n and pending.criterion is not None:  # As with torch.autograd.grad.
            pending.losses.add(pending.criterion, None)
        if pending.losses.n:
            step.losses.append(pending.losses)
        step.n_tokens += pending.n_tokens
        step.n_samples += pending.n_samples
        step.data_seconds += pending.data_seconds
        for norm in pending.norms:
            step.to_read[f"norm/{len(step.to_read)}"] = norm
        if pending.loss_scale is not None:
            step.to_read["loss_scale"] = pending.loss_scale.clone()  # GradScaler changes it in place after the step.
        if is_first:
            self._measure(step, pending)
        seconds = self.clock.optimizer_stepped()
        if step.number > 0:  # When the first step began is not known: the model was not known before its end.
            step.seconds += seconds

    def _measure(self, step: OpenStep, pending: Pending) -> None:
        """Add what is measured once a step, after its first optimizer."""
        ratio = self._measurements.update_ratio()
        if ratio is not None:
            step.to_read["update_ratio"] = ratio
        if (dead_units := self._measurements.dead_units()) is not None:
            step.to_read["dead_units"] = dead_units
        if not pending.norms and (norm := self._measurements.gradient_norm(step.optimizers)) is not None:
            step.to_read["norm/0"] = norm
        step.row_hashes, step.batch = self.batches.end_step(step.number, max(1, pending.losses.n))
        step.extra |= self._measurements.memory()

    @property
    def n_complete(self) -> int:
        """The complete steps, recorded or not."""
        return self.log.n_steps + len(self._queue)

    def close_step(self, *, wait: bool) -> None:
        """End the open step, and record the steps whose values are there; with `wait` all of them."""
        step = self._open
        self._open = None
        if step is not None and step.optimizers:
            step.extra |= self._extra(step)
            step.optimizers = []  # A queued step must not keep a model of the script alive.
            self._queue.add(step)
        for complete, values in self._queue.take(wait=wait):
            self._start(complete)
            self._record_evaluations()
            self.log.step_done(complete, values)
            self._record_batch(complete, values)
        self._record_evaluations()

    def _record_evaluations(self) -> None:
        """Record the evaluations that took place after the steps that are recorded."""
        if self.log.is_started:
            for evaluation in self._evaluations.take(self.log.n_steps):
                self.log.evaluation(evaluation)

    def _extra(self, step: OpenStep) -> dict[str, float]:
        """Further figures of a step, by the names that events use."""
        extra = {f"lr/{i}": lr for i, lr in enumerate(step.lrs) if i and lr != step.lrs[0]}
        if self.steering.lr_factor != 1.0:
            extra["script_lr"] = step.script_lr
        if self._n_skipped:
            extra["skipped_steps"] = float(self._n_skipped)
        if step.micro_batches > 1:
            extra["micro_batches"] = float(step.micro_batches)
        return extra

    def _record_batch(self, step: OpenStep, values: StepValues) -> None:
        if values.row_hashes is not None:
            self.batches.add_rows(step.number, values.row_hashes)
        if step.batch is not None:
            history = None if values.row_hashes is None else self.batches.history()
            self._last_x = step.batch.x
            self.log.batch(step.batch, history)

    def _start(self, step: OpenStep) -> None:
        """Before the first step is recorded: write what is known of the script."""
        if self.log.is_started:
            return
        found = Discovered(
            model=self.finder.likely_model,
            optimizers=tuple(self.optimizers),
            lr=step.script_lr,
            grad_clip=self._grad_clip,
            seen_vocab=self._n_vocab,
            inputs=self._first_inputs,
            steps=self.given.steps,
        )
        self.log.start(found, user_namespaces(sys._getframe()), self.given.tokenizer, self.given.settings)

    @property
    def latest_x(self) -> Ids | None:
        """Token ids of the latest recorded batch, or of the present one if none is recorded: int64 [R, T]."""
        if self._last_x is not None:
            return self._last_x
        inputs = self.batches.inputs
        return inputs.x.cpu().numpy() if inputs is not None and inputs.x is not None and inputs.has_tokens else None

    def start_by_hand(self, inputs: Inputs, lr: float) -> None:
        """Start the run at the first step of a loop that records its steps itself."""
        self._first_inputs = self._first_inputs or inputs
        self._start(OpenStep(0, script_lr=lr))

    def finish(self) -> None:
        """Remove the hooks and record what is left."""
        self.hooks.remove()
        self.finder.remove()
        self._finish_evaluation()
        self.close_step(wait=True)

    def _is_watched(self, optimizer: Optimizer) -> bool:
        return not self.given.optimizers or any(optimizer is given for given in self.given.optimizers)
