"""Collects the evaluations of a script until the steps before them are recorded."""

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import FrameType
from typing import Any

from torch import Tensor, nn

from tui_lab.core.watch.code.data_parts import DataPart, data_part, is_validation
from tui_lab.core.watch.evaluation.evaluations import Evaluation, EvaluationCall, Evaluations
from tui_lab.core.watch.evaluation.loss_means import BatchLoss, Numbers
from tui_lab.core.watch.evaluation.same_memory import SameMemory
from tui_lab.core.watch.evaluation.trainer_losses import TrainerLosses
from tui_lab.core.watch.model.model_search import inputs_of, loss_of
from tui_lab.core.watch.variables.script_config import user_namespaces
from tui_lab.core.watch.variables.script_numbers import numbers_in, variables_in


class WithoutLoss:
    """Notices evaluations of a validation part in which no loss was seen, as one that the script computes itself."""

    def __init__(self) -> None:
        self._part = ""
        self._n = 0
        self._is_off = False

    def called(self, part: DataPart) -> None:
        """The model is called for a part of the data."""
        if is_validation(part.name):
            self._part = part.name

    def has_loss(self) -> None:
        """A validation loss is known, so that none is missing."""
        self._is_off = True

    def finish(self) -> Evaluation | None:
        """End an evaluation without a loss. Return a warning at the second one: before it, text may be generated."""
        part, self._part = self._part, ""
        self._n += bool(part)
        if self._is_off or not part or self._n < 2:
            return None
        self._is_off = True
        warning = (
            f"no validation loss is recorded: on its {part} data, the script computes no loss that is known, such as "
            "F.cross_entropy or F.mse_loss. run.log(val_loss=…) records one"
        )
        return Evaluation({}, None, examples=0, is_cross_entropy=False, warning=warning)


class EvaluationRecorder:
    """Gets every loss that is computed without gradients. An evaluation ends when training continues."""

    def __init__(self) -> None:
        self._evaluations = Evaluations()
        self._call = EvaluationCall()
        self._has_called = False
        """Whether the model was called without gradients since its last call for training or that of another model."""
        self._finished: list[tuple[int, Evaluation]] = []
        """With the number of steps after which each took place."""
        self._has_own_loss = False
        """Whether the script has logged a validation loss since the latest loss that was seen."""
        self._without_loss = WithoutLoss()
        self._module: weakref.ref[nn.Module] | None = None
        """The module that was called latest."""
        self._reported: tuple[int, float] | None = None
        """The latest validation loss of a Trainer, after the number of steps."""

    @property
    def has_called(self) -> bool:
        """Whether a loss without gradients is that of an evaluation, and not of a training batch or another model."""
        return self._has_called

    def criterion(
        self, logits: Tensor, output: Tensor, n_targets: Tensor | int, *, is_sum: bool, is_cross_entropy: bool
    ) -> None:
        """A loss function made `output` of `logits`, within a call of the model or after it.

        n_targets: those that count. After a loss of what the model returned, one of other memory is not that of this
        call, but of another module: a copy, a moving average of the weights, or a teacher.
        """
        self._has_own_loss = False
        call = self._call
        loss = BatchLoss(output.detach(), call.n_rows, n_targets, is_sum)
        if call.is_running:
            call.losses.append(loss)
        elif (is_of_output := call.output.holds(logits)) or not call.has_loss:
            call.has_loss = is_of_output
            part = _part_of_loss(call.part, sys._getframe(1))
            self._evaluations.add(loss, part, _sums_in_script(sys._getframe()), is_cross_entropy=is_cross_entropy)

    def called(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """The model, `module`, is called."""
        self._module = weakref.ref(module)
        x = inputs_of(args, kwargs).x
        n_rows = int(x.shape[0]) if x is not None and x.dim() else 1
        part = data_part(sys._getframe(1))
        self._call = EvaluationCall(part, is_running=True, n_rows=n_rows)
        self._without_loss.called(part)
        self._has_called = True
        self._has_own_loss = False

    def returned(self, output: Any, *, is_cross_entropy: bool) -> None:
        """The model returned `output`.

        The loss that it returns counts instead of those in the call: it may be a mean where those are sums, or have
        further terms, or come from a compiled function.
        """
        call = self._call
        call.is_running = False
        call.output = SameMemory(output)
        returned = loss_of(output)
        call.has_loss = returned is not None and bool(call.losses)
        for loss in call.losses if returned is None else [_returned_loss(returned.detach(), call)]:
            part = call.part or data_part(sys._getframe(1))
            self._evaluations.add(loss, part, _sums_in_script(sys._getframe()), is_cross_entropy=is_cross_entropy)

    def other_called(self, is_trained: Callable[[], bool]) -> None:
        """Another module of a class of the model was called. Unless it is trained, its losses do not count.

        Ignored within a call of the model, of which it is a part.
        """
        if self._has_called and not self._call.is_running and not is_trained():
            self._has_called = False

    def interrupted(self, module: nn.Module) -> None:
        """A call of `module` for training follows: a call without gradients that has not returned raised an exception.

        If a part of `module` was taken for the model before, what it returned is not a loss of the model.
        """
        evaluated = None if self._module is None else self._module()
        if evaluated is not None and evaluated is not module:
            self._module = None
            if any(part is evaluated for part in module.modules()):
                self.discard()
        if self._call.part is not None:
            self._call = EvaluationCall()
            self._has_called = False

    def finish(self, n_steps: int) -> None:
        """End the evaluation, if there is one; it took place after `n_steps` steps. Waits for its losses."""
        evaluation = self._evaluations.finish(_results_in_script(sys._getframe()))
        if self._has_own_loss or evaluation is not None:
            self._without_loss.has_loss()
        evaluation = evaluation or self._without_loss.finish()
        if evaluation is not None:
            self._finished.append((n_steps, evaluation))

    def discard(self) -> None:
        """The losses that were seen since the last evaluation are not those of one."""
        self._evaluations.discard()

    def reported(self, n_steps: int, losses: TrainerLosses) -> None:
        """A Trainer reports the losses of the evaluation that has just ended, after `n_steps` steps.

        They count instead of those that were seen, which may be others than that of a Trainer's own loss function.
        """
        self._without_loss.has_loss()
        val_loss = losses.val_loss
        observed = self._evaluations.finish(lambda: [] if val_loss is None else [val_loss])
        if self._has_own_loss:
            return
        before = self._reported
        is_repeated = before is not None and before[0] == n_steps and val_loss is not None
        evaluation = losses.repeated(before[1]) if is_repeated and before else losses.evaluation(observed)
        if not is_repeated and val_loss is not None:
            self._reported = (n_steps, val_loss)
        if evaluation is not None:
            self._finished.append((n_steps, evaluation))

    def take(self, n_steps: int) -> list[Evaluation]:
        """Return the evaluations of the first `n_steps` steps, each once."""
        if not self._finished:
            return []
        due = [evaluation for at, evaluation in self._finished if at <= n_steps]
        self._finished = [pair for pair in self._finished if pair[0] > n_steps]
        return due

    def take_corrected(self, n_steps: int, val_loss: float) -> Evaluation | None:
        """Return the latest evaluation after `n_steps` steps with the validation loss of the script.

        None if there is none.
        """
        self._has_own_loss = True
        self._without_loss.has_loss()
        at_step = [evaluation for at, evaluation in self._finished if at == n_steps and evaluation.losses]
        self._finished = [pair for pair in self._finished if pair[0] != n_steps]
        if not at_step:
            return None
        evaluation = at_step[-1]
        name = evaluation.validation or "val"
        return replace(evaluation, validation=name, losses={**evaluation.losses, name: val_loss})


def _sums_in_script(frame: FrameType) -> Numbers:
    return lambda: variables_in(user_namespaces(frame))


def _results_in_script(frame: FrameType) -> Numbers:
    def results() -> Iterator[float]:
        namespaces = user_namespaces(frame)
        yield from variables_in(namespaces)
        yield from numbers_in(namespaces)

    return results


def _part_of_loss(of_call: DataPart | None, frame: FrameType) -> DataPart:
    """Return the part of the data of a loss, from that of the latest call of the model and from where it is computed.

    It is that of the call, since two losses may be computed from one output, unless another part is named here: then
    the output is that of another model, such as the best one, which the script has loaded to test it.
    """
    if of_call is not None and not of_call.name:
        return of_call
    here = data_part(frame)
    return here if of_call is None or here.name not in ("", of_call.name) else of_call


def _returned_loss(returned: Tensor, call: EvaluationCall) -> BatchLoss:
    """Return the loss that a call of the model returned: that of a loss function in it, or one made of it."""
    for loss in call.losses:
        if loss.value.data_ptr() == returned.data_ptr():
            return loss
    n_targets = call.losses[0].n_targets if len(call.losses) == 1 else None
    return BatchLoss(returned, call.n_rows, n_targets)
