"""Updates whose losses are read one update late, so that the device is never idle while the CPU waits for a number.

Reading a loss waits until the device has computed it. If every step read its loss at once, the device would be idle
while the CPU prepares the next step. So the next update is queued first. Until the CPU knows that a loss is not finite,
the device itself must leave the weights alone: a flag in its memory, which the optimizer reads there.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from tui_lab.core.kernels.device import HostCopy
from tui_lab.core.training.loss_figures import LOSS_EMA
from tui_lab.core.training.loss_scale import LossScale
from tui_lab.core.training.optim import can_skip_on_device
from tui_lab.core.training.step_metrics import StepMetrics
from tui_lab.core.training.train_step import apply_unread_gradients, check_finite
from tui_lab.core.training.update import Update, begin_update, compute_gradients

if TYPE_CHECKING:
    from tui_lab.core.training.trainer import Trainer


@dataclass(frozen=True)
class _Unread:
    """An update that is queued on the device. numbers: its loss and gradient norm, [2]."""

    update: Update
    numbers: HostCopy
    scale: LossScale | None


class LateReading:
    """Makes the updates of a trainer; at most one of them is unread.

    The trainer's `progress` counts the updates that were read, while its weights may be one update ahead: call
    `read` before anything looks at them. Losses, gradients and weights are bit for bit those of `Trainer.train_step`.
    """

    def __init__(self, trainer: "Trainer") -> None:
        self._trainer = trainer
        self._unread: _Unread | None = None
        self._is_first = True
        self._last_read = -math.inf
        self._skip = torch.zeros((), device=trainer.device)
        """1 from an update on whose loss or gradient is not finite: no later one changes the weights."""

    @property
    def has_unread(self) -> bool:
        return self._unread is not None

    def steps(self) -> Iterator[StepMetrics]:
        """Queue an update, then yield the metrics of the one before, and its own where something else may be due.

        Raises NotFiniteError as `Trainer.train_step` does, an update later.
        """
        if self._is_first:
            # The optimizer creates its state then, some of it from memory that is not initialized.
            self._is_first = False
            yield self._trainer.train_step()
            return
        before = self._unread
        self._unread = None
        try:
            self._unread = self._queue(before)
        finally:  # An error of this update comes after the results of the one before.
            if before is not None:
                yield self._finish(before)
        if self._unread is not None and self._is_something_due_after(self._unread.update.step + 1):
            yield from self.read()

    def read(self) -> Iterator[StepMetrics]:
        """Wait for the unread update, if there is one, and yield its metrics. Raises NotFiniteError."""
        unread = self._unread
        self._unread = None
        if unread is not None:
            yield self._finish(unread)

    def run_updates(self, n: int) -> None:
        """Make `n` updates and read them all. Raises NotFiniteError."""
        end = self._trainer.step + n
        while self._trainer.step + self.has_unread < end:
            for _ in self.steps():
                pass
        for _ in self.read():
            pass

    def _finish(self, unread: _Unread) -> StepMetrics:
        """Wait for an update and count it."""
        trainer = self._trainer
        update = unread.update
        scale = unread.scale
        loss, grad_norm = unread.numbers.read().tolist()
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            # The update after it, if one is queued, is skipped on the device, too.
            self._unread = None
            self._skip.zero_()
            if scale is None or not scale.should_shrink(loss, grad_norm):
                check_finite(update.step + 1, loss, grad_norm, update.lr, 1.0 if scale is None else scale.value)
            return trainer.train_step()
        # Two updates overlap; their seconds must not.
        started = max(update.started, self._last_read)
        metrics = trainer.finish_update(replace(update, started=started), loss, grad_norm, scale)
        self._last_read = started + metrics.seconds
        return metrics

    def _queue(self, before: _Unread | None) -> _Unread:
        """Queue the update after `before`, or else the trainer's next."""
        trainer = self._trainer
        scale = trainer.progress.loss_scale
        step = trainer.step
        if before is not None:
            scale = None if before.scale is None else before.scale.after_step()
            step = before.update.step + 1
        update = begin_update(trainer, step)
        loss, grad_norm = compute_gradients(trainer, update, 1.0 if scale is None else scale.value)
        numbers = torch.stack([loss, grad_norm])
        is_finite = numbers.isfinite().all()
        torch.maximum(self._skip, (~is_finite).to(self._skip.dtype), out=self._skip)
        update.measurements.before_update()
        clip = trainer.config.optim.grad_clip
        apply_unread_gradients(trainer.hooks, trainer.optimizers, grad_norm, clip, self._skip)
        update.measurements.after_update()
        return _Unread(update, HostCopy(numbers), scale)

    def _is_something_due_after(self, step: int) -> bool:
        """Return whether the trainer may do something else than the next update once `step` updates are done."""
        trainer = self._trainer
        train = trainer.config.train
        ema = trainer.progress.loss_ema
        # A loss is not negative, so the next mean is at least this share of the last.
        may_reach_target = train.target_loss > 0 and (ema is None or LOSS_EMA * ema <= train.target_loss)
        return (
            step >= train.steps
            or may_reach_target
            or (train.eval_every > 0 and step % train.eval_every == 0)
            or trainer.checkpointing.is_due(step, train.checkpoint_every)
            or trainer.control.steps_left > 0
        )


def supports_late_reading(trainer: "Trainer") -> bool:
    """Return whether the updates of a trainer can be made without knowing the loss of the one before.

    Not with several processes, which exchange numbers at every step; not with planted faults, which may keep gradients.
    """
    is_alone = trainer.group.size == 1
    return is_alone and not trainer.config.faults and can_skip_on_device(trainer.optimizers)
