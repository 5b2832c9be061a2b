"""Replays a step of the trainer whose loss or gradient is not finite, and names what became non-finite first."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tui_lab.core import events as ev
from tui_lab.core.kernels.device import seed_torch, to_device
from tui_lab.core.nonfinite.record import MAX_ROWS, MAX_TEXT, BatchRow, Origin
from tui_lab.core.nonfinite.rows import BatchShape
from tui_lab.core.nonfinite.trace import FirstNonFinite, Trace, weights_origin
from tui_lab.core.training.compiled import without_compiled_loss
from tui_lab.core.training.train_step import (
    Overflow,
    TrainStepHooks,
    backward_scaled,
    dropout_seed,
    unscaled_gradients,
)
from tui_lab.core.user_code.external_model import ExternalModel, Model
from tui_lab.data.loader import Batch
from tui_lab.data.tokenizers import Tokenizer, decode
from tui_lab.util.strict_json import dumps

if TYPE_CHECKING:
    from tui_lab.core.training.trainer import Trainer


@dataclass(frozen=True)
class FailedStep:
    """What is needed to make a step again. x, y: int64 [B, T]; divisor: of the summed loss; seed: of dropout."""

    model: Model
    hooks: TrainStepHooks
    batch: Batch
    x: Tensor
    y: Tensor
    divisor: Tensor
    micro_batches: int
    seed: int
    overflow: Overflow
    tokenizer: Tokenizer

    @property
    def unknown(self) -> Origin:
        """The origin where the replay is finite."""
        overflow = self.overflow
        return Origin(quantity=overflow.quantity, phase="unknown", n_batch=len(self.x), scale=overflow.scale)


def trace_overflow(trainer: "Trainer", overflow: Overflow) -> Iterator[ev.Event]:
    """Yield a NonFinite event for the step that the trainer could not make, or a warning where it cannot be replayed.

    Every rank replays its own share. Collective.
    """
    group = trainer.group
    config = trainer.config
    batch = trainer.loader.batch(trainer.step)
    x, y = (to_device(array, trainer.device) for array in (batch.x, batch.y))
    step = FailedStep(
        model=trainer.model,
        hooks=without_compiled_loss(trainer.hooks),
        batch=batch,
        x=x,
        y=y,
        divisor=group.divisor(trainer.hooks, y),
        micro_batches=config.train.accumulate,
        seed=dropout_seed(config.train.seed, trainer.step, group.rank),
        overflow=overflow,
        tokenizer=trainer.task.tokenizer,
    )
    problem = ""
    origin = step.unknown
    try:
        origin = find_origin(step) if len(x) else origin
    except Exception as error:  # Out of memory, or an operation that cannot be followed; the run has failed anyway.
        problem = f"what became non-finite first is not known, because the replay failed: {error!r}"
    origins = [ev.parse_origin(data) for data in group.all_gather(dumps(asdict(origin)).encode())]
    first = of_all_ranks(origins)
    if problem and first.phase == "unknown":
        yield ev.Warned(step=trainer.step, message=problem)
    else:
        yield ev.NonFinite(step=trainer.step, origin=first)


def of_all_ranks(origins: Sequence[Origin]) -> Origin:
    """Return the origin of the first rank that has one, with the rows of all ranks that have the same.

    Rank r of n has the rows r, r + n, r + 2n, … of the batch.
    """
    size = len(origins)
    if size == 1:
        return origins[0]
    rank = next((rank for rank, origin in enumerate(origins) if origin.phase != "unknown"), 0)
    first = origins[rank]
    same = [(i, o) for i, o in enumerate(origins) if _place(o) == _place(first)]
    rows = sorted((replace(row, row=row.row * size + i) for i, o in same for row in o.rows), key=lambda row: row.row)
    return replace(
        first,
        rank=rank,
        rows=tuple(rows[:MAX_ROWS]),
        n_rows=sum(origin.n_rows for _, origin in same),
        n_batch=sum(origin.n_batch for origin in origins),
    )


def _place(origin: Origin) -> tuple[str, str, str]:
    return origin.phase, origin.module, origin.operation


def find_origin(step: FailedStep) -> Origin:
    """Make the step again, without the update, and return what became non-finite first.

    Weights, buffers and optimizer state stay as they are; the gradients are cleared. The phase is "unknown" where the
    replay is finite, as with a model that draws from a generator of its own.
    """
    model = step.model
    named = model.inner if isinstance(model, ExternalModel) else model
    quantity = step.overflow.quantity
    before = weights_origin(named, quantity, len(step.x))
    if before is not None:
        return before
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    trace = Trace(model, _row_namer(step), named=named, scale=step.overflow.scale)
    model.zero_grad(set_to_none=True)
    try:
        seed_torch(step.x.device, step.seed)
        with trace.recording():
            _replay(step, trace)
    except FirstNonFinite as first:
        return first.origin
    finally:
        model.zero_grad(set_to_none=True)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)
    return step.unknown


def _replay(step: FailedStep, trace: Trace) -> None:
    """What train_step.backward does, followed by `trace`."""
    step.hooks.set_mode(step.model)
    n = min(step.micro_batches, len(step.x))
    first_row = 0
    for i, (x, y) in enumerate(zip(step.x.tensor_split(n), step.y.tensor_split(n), strict=True)):
        shape = BatchShape(len(x), x.shape[1], first_row)
        trace.begin_batch((x, y), shape, len(step.x), i if n > 1 else None)
        loss = step.hooks.loss_sum(step.model, x, y) / step.divisor
        trace.check_loss(loss)
        trace.begin_backward(loss)
        backward_scaled(loss, step.overflow.scale)
        first_row += len(x)
    unscaled_gradients(step.model, step.overflow.scale)
    trace.check_sums(trace.gradients())


def _row_namer(step: FailedStep) -> Callable[[int], BatchRow]:
    batch = step.batch

    def name_row(row: int) -> BatchRow:
        text = decode(step.tokenizer, batch.x[row][:MAX_TEXT].tolist())
        offset = None if batch.offsets is None else int(batch.offsets[row])
        return BatchRow(row=row, example=int(batch.ids[row]), offset=offset, text=text[:MAX_TEXT])

    return name_row
