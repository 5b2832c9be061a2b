"""What became non-finite first in a step: an overflow in a feed-forward layer, in one of four rows."""

from tui_lab.core.nonfinite.record import BatchRow, Origin, TensorRange

OVERFLOW = Origin(
    quantity="loss",
    phase="forward",
    kind="inf",
    cause="overflow",
    module="layers.1.W_2",
    module_type="Linear",
    operation="addmm",
    dtype="float16",
    inputs=(TensorRange(name="input", dtype="float16", shape=(4, 8), low=-2.0, high=6e4),),
    output=TensorRange(name="output", dtype="float16", shape=(4, 8), low=-1.0, high=1.0, n_inf=3, n_nan=1),
    rows=(BatchRow(row=2, example=71, positions=(5,), text="to be\nor not"),),
    n_rows=1,
    n_batch=4,
)
