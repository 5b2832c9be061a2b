"""Builds the record of a loop from what its hooks call: the order of calls, gradients, rates and rows."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from tui_lab.core.doctor.loop.call_capture import CallCapture
from tui_lab.core.doctor.loop.called_modules import CalledModules
from tui_lab.core.doctor.loop.draft import Draft, Loaders
from tui_lab.core.doctor.loop.gradients import LoopGradients
from tui_lab.core.doctor.loop.hooks import FURTHER_CRITERIA
from tui_lab.core.doctor.loop.known_optimizers import KnownOptimizers
from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.doctor.loop.logits import LogitsGradients
from tui_lab.core.doctor.loop.loss_graph import is_detached, when_reached
from tui_lab.core.doctor.loop.loss_scales import ScaledLosses
from tui_lab.core.doctor.loop.observer import ObservedHooks
from tui_lab.core.doctor.loop.record import LoopRecord, SkippedStep, UpdateRecord
from tui_lab.core.doctor.loop.row_hashes import RowHashes
from tui_lab.core.doctor.loop.steps_by_hand import StepsByHand
from tui_lab.core.watch.model.model_calls import unwrapped
from tui_lab.core.watch.model.model_search import inputs_of, parameters_of


class RecordBuilder(ObservedHooks):
    """Listens to LoopHooks. The parameters are those of LoopRecorder."""

    def __init__(
        self,
        model: nn.Module | None,
        optimizers: Sequence[Optimizer],
        on_update: Callable[[UpdateRecord], None],
        measure_updates: int,
        capture: CallCapture,
    ) -> None:
        super().__init__()
        self.modules = CalledModules(model)
        self._on_update = on_update
        self._measure_updates = measure_updates
        self._capture = capture
        self._gradients = LoopGradients()
        self._logits = LogitsGradients()
        self._rows = RowHashes()
        self.optimizers = KnownOptimizers(optimizers)
        self._by_hand = StepsByHand(self._gradients, lambda: bool(self.optimizers.created))
        self._step_has_closure = False
        self._call: tuple[nn.Module, Tensor | None] | None = None
        """The module that is being called, and its x."""
        self._updates: list[UpdateRecord] = []
        self._draft = Draft()
        self._scaled = ScaledLosses()
        self._scale = 1.0
        self.moves_by_hand = False
        """Whether the weights have changed without a step of any optimizer."""
        self._skipped: list[SkippedStep] = []
        self._trained_rows: tuple[list[int], Callable[[], None]] = [], lambda: None
        """Of the module that is being called: hashes of its rows, and what keeps the rows."""
        self._notes: dict[str, None] = {}
        if model is not None:
            self._gradients.watch(model.named_parameters())

    def record(self, *, has_ended: bool = False) -> LoopRecord:
        """Return what was recorded so far. has_ended: whether the loop has run to its own end."""
        self.close_update(call=False)
        self.modules.choose(self.optimizers.stepped or self.optimizers.created)
        if self._logits.problem:
            self._notes[self._logits.problem] = None
        observed = self._observer.observed
        return LoopRecord(
            updates=tuple(self._updates),
            remaining=tuple(self._draft.events),
            measurements=tuple(self._logits.measurements),
            never_cleared=self._gradients.never_cleared,
            unmoved=self._gradients.unmoved if self._updates else (),
            unmoved_with_gradient=self._gradients.unmoved_with_gradient,
            with_gradient=self._gradients.with_gradient,
            evaluation_rows=frozenset(self._rows.of_evaluations),
            rows_evaluated_first=frozenset(self._rows.evaluated_first),
            rows_evaluated_later=frozenset(self._rows.evaluated_later),
            training_part_rows=frozenset(self._rows.of_training_part),
            moves_by_hand=self.moves_by_hand,
            left_out=self._gradients.left_out,
            rates_by_hand=self._gradients.rates_by_hand,
            skipped=tuple(self._skipped),
            n_rebuilt=self.optimizers.n_rebuilt,
            created_at=self.optimizers.created_at,
            rebuilt_at=self.optimizers.rebuilt_at,
            has_ended=has_ended,
            notes=(*self._notes, *self._observer.notes),
            observed=observed,
        )

    # Calls of modules and losses

    def created(self, optimizer: Optimizer) -> None:
        self.optimizers.add_created(optimizer)
        self._capture.created(optimizer)

    def model_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._look_for_update()
        if not torch.is_grad_enabled():
            self._evaluation(module, args, kwargs)
            self._capture.evaluated()
            return
        if not any(p.requires_grad for p in module.parameters()):
            return
        self.close_update()
        # Without an optimizer, nothing else shows that a loop replaces a part of its model.
        if self.modules.add(module) or self.moves_by_hand:
            self._gradients.watch(unwrapped(module).named_parameters())
        x = inputs_of(args, kwargs).x
        self._call = (module, x)
        self._draft.add("forward", training=module.training)
        self._trained_rows = self._rows.hashes(x), self._observer.training_rows(x)
        self._observer.model_call(module, args, kwargs, x)
        self._capture.training_call(module, args, kwargs)

    def model_return(self, module: nn.Module, output: Any) -> None:
        if self._call is None or self._call[0] is not module:
            return
        x = self._call[1]
        self._call = None
        self._observer.model_return(module, output)
        when_reached(output, partial(self._trained, *self._trained_rows))
        if len(self._updates) < self._measure_updates:
            self._logits.called(x, output)
        self._capture.returned(output)

    def _trained(self, hashes: list[int], keep: Callable[[], None]) -> None:
        """A backward pass has reached what the model returned for some rows, so that they are not validation rows."""
        self._draft.rows += hashes
        self._rows.trained(hashes)
        keep()

    def _evaluation(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._observer.evaluated(module)
        if not self.modules.concerns(module):  # A teacher, or a metric that is a module.
            return
        self._draft.add("evaluation", training=module.training)
        if not self._draft.is_complete:
            self._draft.loaders = Loaders()  # What was drawn before was for the evaluation.
        x = inputs_of(args, kwargs).x
        self._rows.evaluated(x, after_update=bool(self._updates))
        self._observer.validated(x)

    def loss(self, name: str, output: Tensor, targets: Tensor, options: dict[str, Any]) -> None:
        draft = self._draft
        if not output.requires_grad:
            if output.numel() == 1:
                draft.add_evaluation_loss(float(output))
            return
        if self.modules.is_empty:  # Else the call of the model has begun the update.
            self.close_update(output)
            draft = self._draft
        self._observer.criterion(name, targets, options)
        if name in FURTHER_CRITERIA:
            return
        draft.compared.append((options.get("input"), targets))
        self._capture.criterion(name, output, targets, options)
        n_targets = 0
        if name in ("cross_entropy", "nll_loss") and not targets.is_floating_point():
            n_targets = int((targets != options.get("ignore_index", -100)).sum())
            draft.n_targets += n_targets
        draft.mean = _mean_of(output, options, n_targets)

    def iterated(self, loader: DataLoader[Any]) -> None:
        self.close_update()
        self._draft.loaders.iterated(loader)

    def drawn(self) -> None:
        self.close_update()
        self._draft.loaders.n_batches += 1

    # Gradients

    def backward(self, loss: Tensor) -> None:
        self.close_update(loss)
        draft = self._draft
        self._by_hand.backward(loss)
        weights = [*self.optimizers.trained, *self._by_hand.parameters]
        if self.modules.is_empty and not draft.losses:
            self._gradients.watch(("", p) for p in weights)
        unscaled = self._scaled.take(loss)
        self._scale = 1.0 if unscaled is None else draft.loss_scale
        line = user_line()
        value = float((loss if unscaled is None else unscaled).detach())
        is_measured = len(self._updates) < self._measure_updates
        is_cut_off = _is_detached(loss, weights, looks_at_graph=is_measured)
        draft.add("backward", line=line, value=value, is_detached=is_cut_off)
        draft.losses.append(value)
        draft.n_backwards_in_step += draft.is_stepping
        draft.n_targets_of_backward.append(draft.n_targets)
        if is_measured:
            self._logits.measure(loss, value, self._scale, line, len(self._updates), draft.compared)
        draft.means.append(draft.mean)
        draft.n_targets = 0
        draft.compared = []
        draft.mean = None
        self._capture.backward(loss, self._scale)
        is_unknown = draft.loss_scale <= 1 or (unscaled is None and self._scaled.contains_part_of(loss))
        self._gradients.before_backward(line, is_scaled=None if is_unknown else unscaled is not None)
        self.moves_by_hand = self.moves_by_hand or self._gradients.moves_by_hand

    def backward_done(self) -> None:
        self._gradients.after_backward(self._scale)
        self._by_hand.after_backward()

    def scaled(self, loss: Tensor, scaled_loss: Tensor, scale: Tensor | None) -> None:
        self.close_update()
        self._scaled.add(loss, scaled_loss)
        self._draft.loss_scale = 1.0 if scale is None else float(scale)
        self._draft.add("scale", value=self._draft.loss_scale)

    def unscaled(self, optimizer: Optimizer) -> None:
        self._draft.add("unscale")
        self._gradients.update.mixed.divided()

    def skipped(self) -> None:
        """The gradients were not finite, so there is no step, and they do not belong to the next one."""
        self._skipped.append(self._draft.skipped(len(self._updates)))
        self._draft = Draft()
        self._gradients.end_update()

    def clip_done(self, kind: str, limit: float, norm: Tensor | None) -> None:
        self._by_hand.clipped(self._draft)
        self._draft.add("clip", value=limit, norm=None if norm is None else float(norm))

    def zero_grad(self, owner: Optimizer | nn.Module) -> None:
        self._by_hand.clears(self._draft)
        self._draft.add("zero_grad")

    def scheduled(self, scheduler: Any) -> None:
        self._draft.add("schedule")
        self._observer.scheduled(scheduler, has_stepped=self._draft.is_complete)

    # Steps

    def step_called(self, has_closure: bool) -> None:
        self._step_has_closure = has_closure

    def before_step(self, optimizer: Optimizer) -> None:
        self._by_hand.turn_off()
        has_closure = self._step_has_closure
        draft = self._draft
        if draft.has_stepped(optimizer):  # Without a forward or backward call between.
            self.close_update()
            draft = self._draft
        if self.optimizers.add_stepped(optimizer, draft):
            self._gradients.watch(("", p) for p in parameters_of([optimizer]))
        self.moves_by_hand = False
        draft.lrs += [float(group["lr"]) for group in optimizer.param_groups]
        draft.is_stepping = True
        self._scaled.clear()
        if not has_closure:
            draft.add("step")
        self._gradients.before_step(optimizer, has_closure=has_closure)
        if not has_closure:
            self._observer.before_step(optimizer)

    def after_step(self, optimizer: Optimizer) -> None:
        has_closure = self._step_has_closure
        draft = self._draft
        if has_closure:
            draft.add("step")
        self._gradients.after_step(optimizer, has_closure=has_closure)
        self._observer.after_step(optimizer)
        draft.stepped_now(optimizer)
        if self._updates and set(self._updates[-1].optimizers) <= set(
            draft.numbers_of_stepped(self.optimizers.stepped)
        ):
            self.close_update()

    def failed(self, hook: str, error: Exception) -> None:
        self._notes[f"the recorder's {hook} stopped after {type(error).__name__}: {error}"] = None

    def close_update(self, loss: Tensor | None = None, *, call: bool = True) -> None:
        """End the update if its last optimizer has stepped; what came after the step belongs to the next one.

        loss: the next one, if it is known.
        """
        self._look_for_update(loss)
        draft = self._draft
        if not draft.is_complete:
            return
        model = self.modules.choose(self.optimizers.stepped)
        if model is not None and self.modules.add(model):
            self._gradients.watch(unwrapped(model).named_parameters())
        self._draft = Draft(events=draft.events[draft.n_events_of_update :])
        update = draft.record(
            number=len(self._updates),
            gradients=self._gradients.end_update(),
            n_trainable=self._gradients.n_trainable,
            optimizers=draft.numbers_of_stepped(self.optimizers.stepped),
        )
        self._updates.append(update)
        self._observer.update_ended(self.modules.model)
        self._logits.release()
        if call:
            self._on_update(update)

    def _look_for_update(self, loss: Tensor | None = None) -> None:
        """Record an update if the script has made one by hand since the last backward pass. loss: the next one."""
        optimizer = self._by_hand.update(self._draft, loss)
        if optimizer is not None:
            self.optimizers.add_stepped(optimizer, self._draft)
            self.moves_by_hand = True

    def release(self) -> None:
        """Keep no tensor of the loop alive. An update by hand that has just been made is the last one."""
        self._look_for_update()
        self._by_hand.turn_off()
        self._logits.release()


def _mean_of(output: Tensor, options: dict[str, Any], n_targets: int) -> float | None:
    """Return the mean loss of what a loss function returned; None where it is not a mean or a sum over targets."""
    reduction = options.get("reduction", "mean")
    if output.numel() != 1 or reduction not in ("mean", "sum"):
        return None
    value = float(output.detach())
    if reduction == "mean":
        return value
    return value / n_targets if n_targets and options.get("weight") is None else None


def _is_detached(loss: Tensor, weights: Iterable[Tensor], *, looks_at_graph: bool) -> bool | None:
    """Return whether no weight is in the graph of the loss; None if only the graph would tell."""
    if not loss.requires_grad or loss.is_leaf:
        return True
    return is_detached(loss, weights) if looks_at_graph else None
