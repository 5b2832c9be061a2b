"""The step that a script is making: what the hooks have seen of it so far."""

import math
from dataclasses import dataclass, field

from torch import Tensor

from tui_lab.core.training.layer_metrics import ByLayer, rounded
from tui_lab.core.watch.batch.recorded_batch import RecordedBatch
from tui_lab.core.watch.batch.row_memory import RowCopy
from tui_lab.core.watch.optimizer.optimizers import ScriptOptimizers
from tui_lab.core.watch.optimizer.weak_optimizers import WeakOptimizers
from tui_lab.core.watch.steps.values import LossSum, Scalar


@dataclass
class Pending:
    """What has happened since the last optimizer step. It belongs to the optimizer that steps next."""

    losses: LossSum = field(default_factory=LossSum)
    criterion: Tensor | None = None
    """What the loss function returned, until a backward pass starts."""
    norms: list[Scalar] = field(default_factory=list)
    """Gradient norms before clipping; several where a script clips parts of the model."""
    loss_scale: Tensor | None = None
    unscaled: tuple[Tensor, Tensor] | None = None
    """The loss and the product that GradScaler made of it."""
    n_calls: int = 0
    """Calls of the model."""
    n_tokens: int = 0
    n_samples: int = 0
    data_seconds: float = 0.0


@dataclass
class OpenStep:
    """One step: each optimizer at most once. It is complete when an optimizer is about to step for the second time.

    number: counted from 0. epoch: from 0, 0 if unknown. lrs: the rates of all parameter groups that the step used;
    script_lr: the first without our factor. The tensors in `to_read` are read when the step is recorded.
    """

    number: int
    epoch: int = 0
    stepped: WeakOptimizers = field(default_factory=WeakOptimizers)
    """The optimizers that have stepped. The last step stays open until another one begins."""
    losses: list[LossSum] = field(default_factory=list)
    lrs: list[float] = field(default_factory=list)
    script_lr: float = math.nan
    n_calls: int = 0
    n_tokens: int = 0
    n_samples: int = 0
    seconds: float = 0.0
    data_seconds: float = 0.0
    extra: dict[str, float] = field(default_factory=dict)
    batch: RecordedBatch | None = None
    to_read: dict[str, Scalar] = field(default_factory=dict)
    """Scalars by name: "norm/0", "norm/1", "update_ratio", "dead_units", "loss_scale", "by_layer/grad_norm/h.0"."""
    row_hashes: Tensor | RowCopy | None = None

    def is_ended(self, optimizers: ScriptOptimizers) -> bool:
        """Return whether the optimizer that stepped last is the one that ends a step."""
        return optimizers.is_last(self.stepped.latest)

    def take(self, pending: Pending) -> None:
        """Add what has happened before the step of an optimizer."""
        if not pending.losses.n and pending.criterion is not None:  # As with torch.autograd.grad.
            pending.losses.add(pending.criterion, None)
        if pending.losses.n:
            self.losses.append(pending.losses)
        self.n_calls += pending.n_calls
        self.n_tokens += pending.n_tokens
        self.n_samples += pending.n_samples
        self.data_seconds += pending.data_seconds
        for norm in pending.norms:
            self.to_read[f"norm/{len(self.to_read)}"] = norm
        if pending.loss_scale is not None:
            self.to_read["loss_scale"] = pending.loss_scale.clone()  # GradScaler changes it in place after the step.

    def count_as(self, following: Pending) -> None:
        """Count what the next step counts if no call of the model was seen in this one, whose model was not known."""
        if not self.n_calls and following.n_calls:
            self.n_tokens = following.n_tokens
            self.n_samples = following.n_samples

    def add_extra(self, *, has_lr_factor: bool, n_skipped: int) -> None:
        """Add further figures, by the names that events use. n_skipped: the steps that GradScaler has skipped."""
        if len(self.lrs) > 1:
            self.extra |= {f"lr/{i}": lr for i, lr in enumerate(self.lrs) if i and lr != self.lrs[0]}
        if has_lr_factor:
            self.extra["script_lr"] = self.script_lr
        if n_skipped:
            self.extra["skipped_steps"] = float(n_skipped)
        if self.micro_batches > 1:
            self.extra["micro_batches"] = float(self.micro_batches)

    @property
    def micro_batches(self) -> int:
        return self.losses[0].n if self.losses else 0

    @property
    def scalars(self) -> list[Scalar]:
        """What `values` needs."""
        return [*(scalar for loss in self.losses for scalar in loss.scalars()), *self.to_read.values()]

    def values(self, numbers: list[float], row_hashes: list[int] | None) -> "StepValues":
        """Return the values of the step, from those of `scalars` and `row_hashes`."""
        losses = []
        for loss in self.losses:
            n = len(loss.scalars())
            losses.append(loss.mean(numbers[:n]))
            numbers = numbers[n:]
        return StepValues(losses, dict(zip(self.to_read, numbers, strict=True)), row_hashes)


@dataclass(frozen=True)
class StepValues:
    """losses: the mean of the micro-batches for each optimizer that had a loss of its own; scalars: by name."""

    losses: list[float]
    scalars: dict[str, float]
    row_hashes: list[int] | None

    @property
    def by_layer(self) -> ByLayer | None:
        """The measurements of each layer, by measurement and layer."""
        values: ByLayer = {}
        for name, value in self.scalars.items():
            kind, _, key = name.partition("/")
            if kind == "by_layer":
                measurement, _, layer = key.partition("/")
                values.setdefault(measurement, {})[layer] = value
        return rounded(values)

    @property
    def grad_norm(self) -> float | None:
        """The norm before clipping: of all parts together where a script clips parts of the model."""
        norms = [value for name, value in self.scalars.items() if name.startswith("norm/")]
        return math.hypot(*norms) if norms else None
