"""What an update does before its loss is known: the batch, the learning rate, forward and backward pass."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from tui_lab.core.kernels.device import seed_torch, to_device
from tui_lab.core.training.optim import lr_at, set_lr
from tui_lab.core.training.row_losses import RowLosses
from tui_lab.core.training.step_metrics import UPDATE_RATIO_EVERY, StepMeasurements
from tui_lab.core.training.train_step import dropout_seed
from tui_lab.data.loader import Batch

if TYPE_CHECKING:
    from tui_lab.core.training.trainer import Trainer


@dataclass(frozen=True)
class Update:
    """An update that has begun.

    step: from 0. started: when, in seconds. x, y: int64 [B, T] on the device. data_seconds: spent on the batch, None
    where that is not measured. rows: gets the losses of the rows.
    """

    step: int
    started: float
    batch: Batch
    x: Tensor
    y: Tensor
    lr: float
    data_seconds: float | None
    measurements: StepMeasurements
    rows: RowLosses | None


def begin_update(trainer: "Trainer", step: int) -> Update:
    """Make the batch of update `step`, from 0, and set the learning rate."""
    started = trainer.clock()
    config = trainer.config
    batch = trainer.loader.batch(step)
    is_measured = step % UPDATE_RATIO_EVERY == 0
    data_seconds = max(0.0, trainer.clock() - started) if is_measured else None
    # Contiguous: rows of a text are slices of a longer array, and a user model may call view(-1).
    x, y = (to_device(array, trainer.device) for array in (batch.x, batch.y))
    lr = lr_at(step, config.train.steps, config.optim) * trainer.hooks.lr_factor
    set_lr(trainer.optimizers, lr)
    return Update(
        step=step,
        started=started,
        batch=batch,
        x=x,
        y=y,
        lr=lr,
        data_seconds=data_seconds,
        measurements=StepMeasurements(trainer.model, step),
        rows=trainer.row_recorder.collector(config.train.row_losses, trainer.loader.drawn),
    )


def compute_gradients(trainer: "Trainer", update: Update, scale: float) -> tuple[Tensor, Tensor]:
    """Return the mean loss and the global norm of the gradient, [] each. scale: see train_step.backward."""
    train = trainer.config.train
    group = trainer.group
    seed_torch(trainer.device, dropout_seed(train.seed, update.step, group.rank))
    return group.backward(trainer.model, trainer.hooks, update.x, update.y, train.accumulate, scale, update.rows)
