"""What became non-finite first in a step, and what went before it, in a few lines of plain text."""

from tui_lab.core.nonfinite.record import BatchRow, Origin, TensorRange
from tui_lab.core.runs.before_nonfinite import BeforeNonFinite
from tui_lab.runs.numbers import short_number
from tui_lab.util.plural import plural

_LARGEST = {"float16": "65504", "bfloat16": "3.4e38", "float32": "3.4e38", "float64": "1.8e308"}
_CAUSES = {
    "division_by_zero": "divides by zero",
    "log_of_zero": "takes the logarithm of zero",
    "infinity": "gives NaN for an infinity that the code puts in",
    "constant": "puts in an infinity that nothing takes out again",
    "all_masked": "takes the softmax of a row that is masked everywhere",
    "invalid": "gives NaN for finite numbers, as 0/0, inf - inf or the square root of a negative number do",
}
SHOWN_ROWS = 3
TEXT_LENGTH = 40


def origin_lines(origin: Origin) -> list[str]:
    """Return what became non-finite first, the ranges of its inputs and output, and the rows of the batch."""
    lines = [f"non-finite first: {headline(origin)}"]
    if ranges := [*origin.inputs, *([origin.output] if origin.output is not None else [])]:
        lines.append("  " + "; ".join(map(_range_text, ranges)))
    if rows := _rows_text(origin):
        lines.append(f"  {rows}")
    return lines


def before_lines(before: BeforeNonFinite) -> list[str]:
    """Return what the event log says about the steps before, in at most three lines."""
    lines = []
    if (loss := before.loss) is not None:
        lines.append(f"  the last finite loss was {short_number(loss.value)}, at step {loss.step:,}")
    if (lr := before.lr) is not None:
        name = "the learning rate" if lr.key == "optim.lr" else lr.key
        lines.append(f"  {name} was raised from {short_number(lr.old)} to {short_number(lr.new)} at step {lr.step:,}")
    if (norm := before.grad_norm) is not None:
        old = f"{short_number(norm.old)} at step {norm.old_step:,}"
        lines.append(f"  the gradient norm grew from {old} to {short_number(norm.new)} at step {norm.new_step:,}")
    return lines


def origin_summary(origin: Origin) -> str:
    """Return what became non-finite first, in one line."""
    rows = f", in {n_rows_text(origin)}" if origin.n_rows else ""
    return f"non-finite first: {headline(origin)}{rows}"


def headline(origin: Origin) -> str:
    """Return where it began, and why."""
    match origin.phase:
        case "weights":
            others = f", and so are {origin.n_parameters - 1:,} others" if origin.n_parameters > 1 else ""
            text = f"the parameter {origin.parameter} was not finite before this step{others}"
        case "data":
            text = f"{origin.parameter or 'the input of the model'} holds {_kind(origin)} already"
            text += f", read in {_module(origin)}" if origin.module_type else ""
        case "norm":
            text = (
                "every gradient is finite, but the sum of their squares overflows float32; "
                f"the largest is that of {origin.parameter}"
            )
        case "sum":
            text = f"the gradients of {origin.parameter} are finite, but their sum over the micro-batches overflows"
        case "unknown":
            text = f"not known: the same step, computed again, has a finite {origin.quantity}"
        case "backward":
            text = f"in the backward pass of {_module(origin)}, {_operation(origin)}"
        case "loss":
            text = f"the loss: {_operation(origin)}; what it is computed from is finite"
        case _:
            text = f"{_module(origin)}, {_operation(origin)}"
    if origin.quantity == "gradient" and origin.parameter and origin.phase in ("backward", "forward", "loss"):
        text += f"; the first gradient it reaches is that of {origin.parameter}"
    return text + _circumstances(origin)


def _circumstances(origin: Origin) -> str:
    parts = [f"micro-batch {origin.micro_batch + 1}"] if origin.micro_batch is not None else []
    if origin.rank is not None:
        parts.append(f"process {origin.rank}")
    if origin.scale != 1.0:
        parts.append(f"loss scale {origin.scale:g}")
    return f" ({', '.join(parts)})" if parts else ""


def _module(origin: Origin) -> str:
    if not origin.module_type:
        return origin.module or "the loss"
    return f"{origin.module} ({origin.module_type})" if origin.module else f"{origin.module_type} itself"


def _operation(origin: Origin) -> str:
    """Return what the operation does."""
    place = f" at {origin.line}" if origin.line else ""
    name = origin.operation or "an operation"
    if origin.cause == "overflow":
        largest = _LARGEST.get(origin.dtype)
        limit = f", whose largest number is {largest}" if largest else ""
        effect = f"overflows {origin.dtype or 'its type'}{limit}" + (" (NaN)" if origin.kind == "nan" else "")
    else:
        effect = _CAUSES.get(origin.cause, f"gives {_kind(origin)}")
    return f"{name}{place} {effect}"


def _kind(origin: Origin) -> str:
    return "NaN" if origin.kind == "nan" else origin.kind


def _range_text(values: TensorRange) -> str:
    shape = "×".join(map(str, values.shape)) or "scalar"
    span = "no finite values" if values.low is None or values.high is None else _span(values.low, values.high)
    counts = [f"{n:,} {name}" for n, name in ((values.n_inf, "inf"), (values.n_nan, "NaN")) if n]
    return f"{values.name} {shape} {span}" + (f" and {', '.join(counts)}" if counts else "")


def _span(low: float, high: float) -> str:
    return f"{short_number(low + 0.0)} … {short_number(high + 0.0)}"  # Adding zero makes −0 a 0.


def _rows_text(origin: Origin) -> str:
    if not origin.n_rows:
        return ""
    is_all = origin.n_rows == origin.n_batch > 1
    shown = [_row_text(row) for row in origin.rows[: 1 if is_all else SHOWN_ROWS]]
    rest = origin.n_rows - len(shown)
    more = f"; and {rest:,} more" if rest and not is_all else ""
    return f"{n_rows_text(origin)}{', such as ' if is_all else ': '}" + "; ".join(shown) + more


def n_rows_text(origin: Origin) -> str:
    """Return in how many rows of the batch it began."""
    if origin.n_rows == origin.n_batch > 1:
        return f"all {origin.n_batch:,} rows"
    of_batch = f" of {origin.n_batch:,}" if origin.n_batch else ""
    return f"{origin.n_rows:,}{of_batch} {plural(max(origin.n_rows, origin.n_batch), 'row')}"


def _row_text(row: BatchRow) -> str:
    text = f"row {row.row + 1:,}"  # People count from 1, as in the batch pane.
    if row.example is not None:
        text += f", example {row.example:,}"
    if row.positions:
        text += f", position {row.positions[0]}" + (" and later" if len(row.positions) > 1 else "")
    content = " ".join(row.text.split())
    if content:
        text += f" “{content[:TEXT_LENGTH]}{'…' if len(content) > TEXT_LENGTH else ''}”"
    return text
