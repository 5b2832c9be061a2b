"""What one forward pass of a model computed: its attentions, and the operations that mix positions or rows."""

import math
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

MixKind = Literal["heads_split", "heads_merged", "batch_and_time", "norm", "reduction"]


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """One weighted mean of values.

    module: the innermost module that computes it. location: the line of the user's code.
    query, key: as they were multiplied, or what a MultiheadAttention was called with; None: unknown.
    d_head: the size over which q and k were multiplied. scale: the factor of q kᵀ; None: learned, or not followed.
    softmax: what the softmax returned, [..., queries, keys]; None: the weights come from no softmax.
    weights: what the values were multiplied by, [..., queries, keys].
    scores: what the softmax was applied to, with the same axes.
    """

    module: str
    location: str
    weights: Tensor
    softmax: Tensor | None = None
    scores: Tensor | None = None
    query: Tensor | None = None
    key: Tensor | None = None
    d_head: int | None = None
    scale: float | None = None
    scores_location: str = ""
    is_projected: bool = False
    """Whether q and k both come from linear maps: scores of other states, as of an RNN, are often not scaled."""
    is_own: bool = False
    """Whether, in addition, the user's code multiplies them."""

    @property
    def is_square(self) -> bool:
        """Whether there are as many queries as keys."""
        return self.weights.shape[-1] == self.weights.shape[-2]


@dataclass(frozen=True)
class Mix:
    """An operation that brings different positions or rows together.

    kind: heads_split, heads_merged: a reshape puts several positions into one vector, or orders them by heads.
    batch_and_time: a reshape exchanges rows and positions. norm, reduction: over an axis of positions or rows.
    over_rows: whether it mixes rows of the batch; else positions of one row.
    is_proven: whether vectors of heads hold the wrong positions even if no effect is measured.
    """

    kind: MixKind
    operation: str
    module: str
    location: str
    over_rows: bool = False
    is_proven: bool = False


@dataclass
class AttentionRecord:
    """The attentions of one forward pass in their order, and the operations that mix positions or rows."""

    calls: list[AttentionCall] = field(default_factory=list)
    mixes: list[Mix] = field(default_factory=list)
    same_angle: str = ""
    """The line at which sines or cosines were computed of an angle that is equal at every position."""
    turned_over: str = ""
    """The axis other than the positions along which the factors of q or k differ: "heads" or "rows of the batch"."""
    turned_location: str = ""
    constant_ids: str = ""
    """The line at which a second table was looked up with equal ids at every position."""


def default_scale(d_head: int) -> float:
    """Return 1 / √d_head (Vaswani et al. 2017)."""
    return 1 / math.sqrt(d_head)
