"""The record of a training loop: what each update did, in which order, with which gradients."""

from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from tui_lab.core.doctor.loop.observed import Observed

MOSTLY = 0.8
"""Share of updates by hand: of momentum, only the first is a multiple of the gradient."""
Operation = Literal["forward", "evaluation", "backward", "scale", "unscale", "clip", "step", "zero_grad", "schedule"]


@dataclass(frozen=True)
class LoopEvent:
    """One call of the loop, or several equal calls in a row.

    operation: "forward" is a call of the whole model with gradients, "evaluation" one without.
    line: where the user's code made the call, "train.py:42"; empty if unknown.
    training: of a forward or evaluation, whether the model was in training mode.
    value: of backward the loss, of an evaluation the loss if one was computed from it, of clip the largest norm or
        value allowed, of scale the loss scale.
    norm: of clip, the norm of the gradients before.
    count: the number of equal calls in a row.
    is_detached: of backward, whether no weight is in the graph of the loss; None: this was not looked up.
    """

    operation: Operation
    line: str = ""
    training: bool | None = None
    value: float | None = None
    norm: float | None = None
    count: int = 1
    is_detached: bool | None = None


@dataclass(frozen=True)
class LossMeasurement:
    """The gradient of one backward call's loss with respect to the model's logits.

    x: ids [B, T]. logits, gradient: [B, T, V], or [B, V] for one output a row. line: of the backward call.
    scale: the loss scale of a GradScaler; gradient is that of the loss before it was scaled.
    update: the number of the update. targets: what the loss function got, if one of torch's was called.
    value: of the loss before it was scaled.
    """

    x: Tensor | None
    logits: Tensor
    gradient: Tensor
    scale: float = 1.0
    line: str = ""
    update: int = 0
    targets: Tensor | None = None
    value: float | None = None


@dataclass(frozen=True)
class UpdateRecord:
    """What happened after the step before, up to and including one optimizer step.

    Steps of several optimizers without a backward call between them are one update.

    events: in their order. losses: of the backward calls, before a GradScaler multiplied them. means: for each the
    value of the mean that one of torch's loss functions returned before it; None if none did.
    leftover: the norm of the gradients that were there before the first backward call.
    given: the norm of what the backward calls added since the gradients were last zero. received: the norm at the
    step. Both of the parameters that stepped and in unscaled units, except received where the loop never unscaled.
    cosine: between the two; nan if it was not measured.
    restarts: backward calls that found the gradients of earlier ones of this update cleared.
    loss_scale: of a GradScaler. lrs: of every parameter group that stepped.
    moved: the fraction of trainable tensors that the step changed.
    relative_change: norm of the change over norm of the weights.
    rows: hashes of the rows of x. n_targets: per backward call, counted targets; 0 if unknown.
    restarted: the line that made a new iterator of a DataLoader with several batches and took its first batch only.
    optimizers: which optimizers stepped, numbered in the order of their first step.
    searches: whether a step called backward several times, as the line search of LBFGS does; then its gradients are
        not compared.
    not_finite: names of parameters whose gradient was not finite at the step.
    unscaled_at: the line of a backward call that added to gradients with a loss scale without that scale; None if
        there is none.
    """

    number: int
    events: tuple[LoopEvent, ...] = ()
    losses: tuple[float, ...] = ()
    means: tuple[float | None, ...] = ()
    leftover: float = 0.0
    given: float = 0.0
    received: float = 0.0
    cosine: float = 1.0
    restarts: int = 0
    loss_scale: float = 1.0
    lrs: tuple[float, ...] = ()
    moved: float = 1.0
    relative_change: float = 0.0
    rows: tuple[int, ...] = ()
    n_targets: tuple[int, ...] = ()
    restarted: str = ""
    optimizers: tuple[int, ...] = (0,)
    searches: bool = False
    not_finite: tuple[str, ...] = ()
    unscaled_at: str | None = None

    @property
    def highest_lr(self) -> float:
        """The highest rate of the parameter groups that stepped; 0 if none did, or if it is not known."""
        return max(self.lrs, default=0.0)

    def events_of(self, *operations: Operation) -> tuple[LoopEvent, ...]:
        """Return the events of these operations."""
        return tuple(event for event in self.events if event.operation in operations)


@dataclass(frozen=True)
class SkippedStep:
    """A step that a GradScaler skipped, since a gradient was not finite.

    n_updates: how many updates there were before it. losses: of the backward calls, before they were multiplied by the
    loss scale. line: of the last of these calls.
    """

    n_updates: int
    losses: tuple[float, ...]
    loss_scale: float
    line: str = ""


@dataclass(frozen=True)
class LoopRecord:
    """All updates that were recorded.

    remaining: events after the last step. measurements: of the backward calls of the first updates.
    never_cleared: names of parameters whose gradients no update but the first cleared before backward added to them.
    unmoved: names of trainable parameters that no step changed. unmoved_with_gradient: those of them that had a
        gradient other than zero at their optimizer's steps.
    with_gradient: the parameters that a backward call gave a gradient other than zero.
    evaluation_rows: hashes of the rows of x in evaluations. training_part_rows: those in evaluations of the training
        part, as far as the loop names it.
    rows_evaluated_first: those of evaluation_rows that were evaluated before they were trained on.
    rows_evaluated_later: those of them that were first evaluated after an update.
    moves_by_hand: whether the weights changed without a step of any optimizer. The updates are those by hand, if the
        loop has created no optimizer; their `lrs` are empty where an update was not a multiple of the gradient.
    left_out: names of parameters that no update by hand changed, though the rule of the others would have.
    rates_by_hand: the highest rate of each parameter in updates by hand, if they have the same ratios in all of them.
    skipped: the steps that a GradScaler skipped.
    n_rebuilt: how often another optimizer stepped weights that one had stepped before, in its place. rebuilt_at: the
        line that created the last of them.
    created_at: the line that created the last optimizer.
    has_ended: whether the loop ran to its own end. is_rehearsal: whether the doctor called the update itself.
    notes: what could not be measured, and why.
    observed: what was noticed apart from the order of the calls.
    """

    updates: tuple[UpdateRecord, ...] = ()
    remaining: tuple[LoopEvent, ...] = ()
    measurements: tuple[LossMeasurement, ...] = ()
    never_cleared: tuple[str, ...] = ()
    unmoved: tuple[str, ...] = ()
    unmoved_with_gradient: tuple[str, ...] = ()
    with_gradient: tuple[Tensor, ...] = ()
    evaluation_rows: frozenset[int] = field(default_factory=frozenset)
    training_part_rows: frozenset[int] = field(default_factory=frozenset)
    rows_evaluated_first: frozenset[int] = field(default_factory=frozenset)
    rows_evaluated_later: frozenset[int] = field(default_factory=frozenset)
    moves_by_hand: bool = False
    left_out: tuple[str, ...] = ()
    rates_by_hand: tuple[tuple[Tensor, float], ...] = ()
    skipped: tuple[SkippedStep, ...] = ()
    n_rebuilt: int = 0
    rebuilt_at: str = ""
    created_at: str = ""
    has_ended: bool = False
    is_rehearsal: bool = False
    notes: tuple[str, ...] = ()
    observed: Observed = field(default_factory=Observed)

    @property
    def skipped_last(self) -> tuple[SkippedStep, ...]:
        """The skipped steps after the last update."""
        return tuple(step for step in self.skipped if step.n_updates == len(self.updates))

    @property
    def is_plain_by_hand(self) -> bool:
        """Whether the updates are made by hand, and almost all subtract a multiple of the gradient.

        Each parameter may have another rate, if all rates keep their ratios.
        """
        if any(len(update.lrs) > 1 for update in self.updates) and not self.rates_by_hand:
            return False
        n_plain = sum(min(update.lrs, default=-1.0) >= 0 for update in self.updates)
        descends = any(update.highest_lr > 0 for update in self.updates)
        return self.moves_by_hand and descends and n_plain >= MOSTLY * len(self.updates)

    @property
    def climbs_by_hand(self) -> bool:
        """Whether every update is made by hand and adds a multiple of the gradient."""
        return self.moves_by_hand and bool(self.updates) and all(max(u.lrs, default=0.0) < 0 for u in self.updates)
