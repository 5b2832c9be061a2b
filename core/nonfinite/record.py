"""What became non-finite first in a step, as data. Does not import torch."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

Count = Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)]

Quantity = Literal["loss", "gradient"]
Phase = Literal["weights", "data", "forward", "loss", "backward", "norm", "sum", "unknown"]
"""Where it began.

weights, data: a tensor that the step only reads held it already. forward: in the model. loss: in the loss, while what
the model returns is finite. backward: while gradients were computed. norm: each gradient is finite, but the squares in
their norm overflow. sum: so are the gradients of every process or micro-batch, but not their sum. unknown: the replay
was finite.
"""
Kind = Literal["inf", "-inf", "nan"]
Cause = Literal[
    "overflow", "division_by_zero", "log_of_zero", "all_masked", "infinity", "already", "constant", "invalid", "unknown"
]
"""Why an operation on finite numbers gives one that is not.

constant: the code puts it in, as in masked_fill(mask, -inf), and nothing takes it out again. all_masked: a softmax over
nothing but -inf. infinity: another operation on an infinity that the code puts in. already: a tensor held it before the
step. invalid: such as inf - inf.
"""

_CONFIG = ConfigDict(extra="ignore")
TRACE_VARIABLE = "TUI_LAB_TRACE"
"""Of the environment of a watched script: "off" replays nothing, "always" lets a GPU be waited for at every step."""
MAX_ROWS = 8
"""Rows that are listed."""
MAX_POSITIONS = 8
"""Positions that are listed of a row."""
MAX_TEXT = 120
"""Characters of a row's text."""


@dataclass(frozen=True, kw_only=True)
class TensorRange:
    """The values of one tensor. low, high: of its finite entries; None if it has none."""

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    name: str
    """"input", "weight", "output", or a parameter's name."""
    dtype: str
    shape: tuple[Count, ...]
    low: float | None
    high: float | None
    n_nan: Count = 0
    n_inf: Count = 0
    """Of either sign."""


@dataclass(frozen=True, kw_only=True)
class BatchRow:
    """A row of the batch in which it began. positions: the first ones within the row; empty if not known.

    example: the id in the dataset; offset: the start of the row in the corpus, in tokens; text: its beginning, decoded.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    row: Count
    example: Count | None = None
    offset: Count | None = None
    positions: tuple[Count, ...] = ()
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The first operation of a step whose result is not finite although what it computes with is.

    quantity: what the trainer saw to be non-finite. module: the module's name, "" for the model itself; module_type:
    its class. operation: torch's name. parameter: in the backward pass, the first one whose gradient is not finite, in
    the order in which gradients are computed; for weights, the one that held it already. dtype: of the result.

    rows: those in which it began, at most MAX_ROWS of the n_rows; 0: not known, or in no row. n_batch: rows of the
    batch. line: FILE:LINE of the user's code. n_parameters: of the weights, those with non-finite values. scale: the
    loss scale, other than 1. rank: of several processes. micro_batch: counted from 0.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _CONFIG

    quantity: Quantity
    phase: Phase
    kind: Kind = "nan"
    cause: Cause = "unknown"
    module: str = ""
    module_type: str = ""
    operation: str = ""
    parameter: str = ""
    dtype: str = ""
    inputs: tuple[TensorRange, ...] = ()
    output: TensorRange | None = None
    rows: tuple[BatchRow, ...] = ()
    n_rows: Count = 0
    n_batch: Count = 0
    line: str = ""
    n_parameters: Count = 0
    scale: float = 1.0
    rank: Count | None = None
    micro_batch: Count | None = None
