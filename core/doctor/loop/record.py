"""The record of a training loop: what each update did, in which order, with which gradients."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

Operation = Literal["forward", "evaluation", "backward", "scale", "unscale", "clip", "step", "zero_grad", "schedule"]


@dataclass(frozen=True)
class LoopEvent:
    """One call of the loop.

    operation: "forward" is a call of the whole model with gradients, "evaluation" one without.
    line: where the user's code made the call, "train.py:42"; empty if unknown.
    training: of a forward or evaluation, whether the model was in training mode.
    value: of backward the loss, of clip the largest norm allowed, of scale the loss scale.
    """

    operation: Operation
    line: str = ""
    training: bool | None = None
    value: float | None = None


@dataclass(frozen=True)
class LossMeasurement:
    """The gradient of one backward call's loss with respect to the model's logits.

    x: ids [B, T]. logits, gradient: [B, T, V]. line: of the backward call.
    scale: the loss scale of a GradScaler; gradient is that of the loss before it was scaled.
    """

    x: Tensor | None
    logits: Tensor
    gradient: Tensor
    scale: float = 1.0
    line: str = ""


@dataclass(frozen=True)
class UpdateRecord:
    """What happened after the step before, up to and including one optimizer step.

    events: in their order. losses: of the backward calls, before a GradScaler multiplied them.
    leftover: the norm of the gradients that were there before the first backward call.
    given: the norm of what the backward calls added. received: the norm at the step. All in unscaled units,
    except received where the loop never unscaled. cosine: between what backward gave and what the step received.
    lrs: of every parameter group. moved: the fraction of trainable tensors that the step changed.
    relative_change: norm of the change over norm of the weights.
    rows: hashes of the rows of x. n_targets: per backward call, counted targets; 0 if unknown.
    """

    number: int
    events: tuple[LoopEvent, ...] = ()
    losses: tuple[float, ...] = ()
    leftover: float = 0.0
    given: float = 0.0
    received: float = 0.0
    cosine: float = 1.0
    loss_scale: float = 1.0
    lrs: tuple[float, ...] = ()
    moved: float = 1.0
    relative_change: float = 0.0
    rows: tuple[int, ...] = ()
    n_targets: tuple[int, ...] = ()


@dataclass(frozen=True)
class LoopRecord:
    """All updates that were recorded.

    remaining: events after the last step. measurements: of the backward calls of one early update.
    never_cleared: names of parameters whose gradients were not zero before any backward call of later updates.
    unmoved: names of trainable parameters that no step changed.
    evaluation_rows: hashes of the rows of x in evaluations.
    """

    updates: tuple[UpdateRecord, ...] = ()
    remaining: tuple[LoopEvent, ...] = ()
    measurements: tuple[LossMeasurement, ...] = ()
    never_cleared: tuple[str, ...] = ()
    unmoved: tuple[str, ...] = ()
    evaluation_rows: frozenset[int] = field(default_factory=frozenset)
