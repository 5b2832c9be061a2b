"""What holds the memory of one step of a script, as its process writes it and its parent reads it."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["between", "forward", "backward", "update"]
"""Where a step is: before its forward pass, such as in an evaluation; in its passes; after them, in the optimizer."""
EarlyFate = Literal["", "freed", "zeroed", "kept"]
"""What becomes of gradients that are there in the forward pass: "" if there are none, or if it is not known."""


@dataclass(frozen=True)
class KeptPart:
    """What the modules of one kind keep for the backward pass.

    name: their place in the model, with * for the numbers of layers; "" for the model itself and for code outside of
    all modules. kind: their class, or FILE:LINE outside of modules. n: how many modules, 0 outside. bytes: of all.
    """

    name: str
    kind: str
    n: int
    bytes: int


@dataclass(frozen=True)
class Kept:
    """Bytes that autograd keeps when a backward pass begins, each storage once, without weights, buffers and batch.

    activations: of the model, `parts` by module. loss: of the loss function with its logits. weight_copies: of the
    activations, those that are weights in another precision. attention: of the activations, matrices of T x T.
    float32: of the activations, those in that type.
    per_row: of activations and loss, what one further row of the batch adds; None if that is not certain.
    compiled: of the activations, those that torch.compile's code keeps. unseen: tensors whose size is not known.
    """

    activations: int
    loss: int
    parts: tuple[KeptPart, ...]
    weight_copies: int
    attention: int
    float32: int
    per_row: float | None
    compiled: int
    unseen: int


@dataclass(frozen=True)
class LossInput:
    """The largest logits of a step: their shape, type and bytes, and those of the last dimension."""

    shape: tuple[int, ...]
    dtype: str
    bytes: int


@dataclass(frozen=True)
class OtherPart:
    """Tensors that are not part of the step's model, such as a data set or a second model. what: a name or a shape."""

    what: str
    bytes: int


@dataclass(frozen=True)
class Growth:
    """What becomes more from step to step. bytes: of tensors, a step. nodes: of autograd's graph, a step.

    variable, place: the variable that holds it, and FILE:LINE where it is added to; "" if they are not known.
    """

    bytes: int
    nodes: int
    variable: str
    place: str


@dataclass(frozen=True)
class Moment:
    """Bytes at one time of a step. total: all tensors. fixed: of them, what does not grow with the rows of the batch.

    Gradients, copies of weights and what an optimizer's step allocates are fixed. So are weights, optimizer state and
    others, which are not in `fixed`: their sizes are those of the step.
    """

    total: int
    fixed: int

    def at_times(self, ratio: float) -> float:
        """Return the bytes with `ratio` times the rows, plus `ratio - 1` times those of weights and their like."""
        return self.fixed + ratio * (self.total - self.fixed)


@dataclass(frozen=True)
class StepMemory:
    """Bytes of a step; None is not known.

    weights: of the modules at work and of the optimizers, frozen ones included. gradients: the most when an optimizer
    steps. early_gradients: those of the step before that are still there when the forward pass begins; early_fate: what
    has become of them when the backward pass begins. batch: the tensors that the model and the loss got.
    rows: of the batch, of each of the micro_batches. others: tensors that are not part of this. held: all tensors when
    the step begins. most: at once, by phase. moments: those that need most, each with some multiple of the rows.
    reserved: by CUDA's allocator. n: of the step, from 1.
    """

    n: int
    device: str
    weights: int | None
    frozen: int | None
    buffers: int | None
    gradients: int | None
    early_gradients: int
    early_fate: EarlyFate
    optimizer: int | None
    optimizers: tuple[str, ...]
    kept: Kept | None
    logits: LossInput | None
    batch: int | None
    rows: int | None
    micro_batches: int
    others: tuple[OtherPart, ...] | None
    held: int | None
    most: dict[Phase, int] | None
    reserved: int | None
    moments: tuple[Moment, ...] | None = None
