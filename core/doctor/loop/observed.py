"""What a recorder observes besides the order of calls: criteria, loaders, states, averages, schedules, rounding."""

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

InputForm = Literal["log-probabilities", "probabilities", "scores", "unit values", "unknown"]
"""scores: neither, with values above 0. unit values: all between 0 and 1, for a criterion that takes any score."""


@dataclass(frozen=True)
class CriterionCall:
    """One call of a loss function of torch, with gradients.

    form: what its input is. total: the mean of Σ exp(input) over the classes, or of Σ input for probabilities.
    made_by: the operation that gave the input, without reshapes: "softmax", "sigmoid", "linear", … or "". Of a
    binary_cross_entropy also UNBOUNDED, of a softmax over one value SOFTMAX_OF_ONE, both of criterion_inputs.
    log_target: of kl_div. shape: of the input. reshaped_from: the shape [B, …, V] that it had before a view made it
    [B, V, …] without moving its elements; empty if none did. target_shape: empty if it does not matter.
    several: the fraction of rows with more than one target of 1, if all targets of a row are 0 or 1.
    place: how many calls of the same line came before it in its update.
    """

    name: str
    line: str
    form: InputForm
    shape: tuple[int, ...]
    total: float = 1.0
    made_by: str = ""
    log_target: bool = False
    reshaped_from: tuple[int, ...] = ()
    target_shape: tuple[int, ...] = ()
    several: float = 0.0
    place: int = 0

    @property
    def compares_all(self) -> bool:
        """Whether input and targets are [n, 1] and [n], or […, n, 1] and […, n], so that each meets every other."""
        shorter, longer = sorted((self.shape, self.target_shape), key=len)
        return len(shorter) > 0 and longer == (*shorter, 1) and shorter[-1] > 1


@dataclass(frozen=True)
class LoaderUse:
    """A DataLoader that the loop took batches from.

    index_sampler: gives the indices that the loader reads. shuffles: whether its order is random.
    n_batches: of one pass; 0 if unknown. n_workers: processes that read.
    """

    dataset: Any
    index_sampler: Any
    shuffles: bool
    n_batches: int
    n_workers: int


@dataclass(frozen=True)
class CarriedState:
    """A recurrent state that a call got from an earlier update.

    n: how often. n_shuffled: after how many of them a shuffling DataLoader had given another batch.
    continuity: the fraction of rows whose first id is the target that ended the row before; None: unknown.
    module: the type that got it. shape: of the state.
    """

    module: str
    line: str
    shape: tuple[int, ...]
    n: int = 0
    n_shuffled: int = 0
    continuity: float | None = None


@dataclass(frozen=True)
class AveragedCopy:
    """A second module whose parameters followed those of the model.

    stale: names of its buffers that never changed while the model's did. n_evaluations: calls in evaluation mode with
    such buffers. is_torch: whether torch.optim.swa_utils.AveragedModel holds it.
    distance: of the buffers from the model's, relative to these.
    """

    kind: str
    stale: tuple[str, ...]
    n_updates: int
    n_evaluations: int
    is_torch: bool
    distance: float
    line: str = ""


@dataclass(frozen=True)
class SelfAverage:
    """A line that averages weights with themselves.

    n_weights: tensors of trained weights. n_updates: after how many different updates.
    """

    line: str
    n_weights: int
    n_updates: int


@dataclass(frozen=True)
class ScheduleUse:
    """A scheduler of learning rates. updates: after how many updates each step came that the loop itself made."""

    scheduler: Any
    updates: tuple[int, ...]
    line: str


@dataclass(frozen=True)
class SharedRows:
    """Rows of one length of a validation part, against the training rows.

    n: that were compared. n_same: that are training rows. n_near: others, of which three quarters or more are part of
    a training row, as windows of one stream that overlap. n_trained: different training rows. n_halved: training rows
    that were compared with half of the training rows. n_shared_halved: those of them that are the same or near to one.
    length: values of a row. is_by_chance: whether rows repeat among the training rows in any case. line: of the model's
    call.
    """

    n: int
    n_same: int
    n_near: int
    n_trained: int
    n_halved: int
    n_shared_halved: int
    length: int
    is_by_chance: bool
    line: str

    @property
    def n_shared(self) -> int:
        """The validation rows that are training rows, or windows that overlap one."""
        return self.n_same + self.n_near

    @property
    def n_expected(self) -> float:
        """How many validation rows would be shared if all of them came from the training data."""
        share = self.n_shared_halved / self.n_halved if self.n_halved else 0.0
        return self.n * (1.0 - (1.0 - share) ** 2)  # The other half finds as many of those that are left.


@dataclass(frozen=True)
class BatchMask:
    """A tensor of zeros and ones of a batch that the model did not get.

    x: the ids [B, T] that it got. mask: bool [B, T] or [B, T + 1].
    """

    x: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Rounding:
    """What the steps of an optimizer lost by rounding its weights, against the same steps in float32.

    n: weights that a step would change. n_lost: those of them that it left as they were. size, size_lost: sums of
    their changes in float32. n_expected: how many changes of less than 0.45 of the distance to the next value of the
    type would be made if each were rounded at random, in proportion. n_made: how many of them were made: none where
    each is rounded to the nearest.
    """

    dtype: str
    n_updates: int = 0
    n: int = 0
    n_lost: int = 0
    size: float = 0.0
    size_lost: float = 0.0
    n_expected: float = 0.0
    n_made: int = 0
    lr: float = 0.0


@dataclass(frozen=True)
class IdleOptimizer:
    """An optimizer that made `n` steps, and in none of them any of its weights had a gradient.

    kind: its type. line: of the step.
    """

    kind: str
    weights: tuple[Tensor, ...]
    n: int
    line: str


@dataclass(frozen=True)
class UnusedData:
    """A variable of the script with training data of which all updates used one batch only.

    n_batches: how many more batches of this size it holds.
    """

    name: str
    n_batches: int


@dataclass(frozen=True)
class RepeatedItems:
    """Items of a data set that every one of `n_updates` updates read. n_batches: of one pass of their DataLoader."""

    dataset: Any
    indices: tuple[Any, ...]
    n_updates: int
    n_batches: int


@dataclass(frozen=True)
class Observed:
    """Everything that was observed.

    training_loaders, validation_loaders: by what the model was called with right after most of their batches.
    constant_loss: the lowest mean loss of a model that ignores its input, for the targets of the only loss function of
        torch that was called; None: unknown.
    n_rebuilt_scalers: how often another GradScaler made an optimizer's step than the one of its step before.
    scaler_created_at: the line that created the last GradScaler.
    """

    criteria: tuple[CriterionCall, ...] = ()
    loaders: tuple[LoaderUse, ...] = ()
    carried: tuple[CarriedState, ...] = ()
    averages: tuple[AveragedCopy, ...] = ()
    schedules: tuple[ScheduleUse, ...] = ()
    rounding: tuple[Rounding, ...] = ()
    shared_rows: tuple[SharedRows, ...] = ()
    training_loaders: tuple[LoaderUse, ...] = ()
    validation_loaders: tuple[LoaderUse, ...] = ()
    masks: tuple[BatchMask, ...] = ()
    constant_loss: float | None = None
    idle: tuple[IdleOptimizer, ...] = ()
    unused: UnusedData | None = None
    self_averages: tuple[SelfAverage, ...] = ()
    repeated: RepeatedItems | None = None
    n_rebuilt_scalers: int = 0
    scaler_created_at: str = ""
