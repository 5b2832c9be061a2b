"""What a report says about the step in which a loss or gradient became non-finite."""

from dataclasses import dataclass

from tui_lab.core import events as ev
from tui_lab.core.nonfinite.record import BatchRow, TensorRange
from tui_lab.core.runs.before_nonfinite import BeforeNonFinite
from tui_lab.runs.nonfinite_text import before_lines, headline, n_rows_text
from tui_lab.runs.numbers import short_number

NOT_KNOWN = "–"
Cells = tuple[str, ...]


@dataclass(frozen=True)
class NonFiniteSection:
    """headline: where it began. tensors, rows: cells of the tables. n_rows: in how many rows, "" if not known.

    before: what went before, a sentence each.
    """

    step: int
    quantity: str
    headline: str
    tensors: tuple[Cells, ...]
    rows: tuple[Cells, ...]
    n_rows: str
    before: tuple[str, ...]

    @classmethod
    def of(cls, event: ev.NonFinite, before: BeforeNonFinite | None) -> "NonFiniteSection":
        origin = event.origin
        output = () if origin.output is None else (origin.output,)
        return cls(
            step=event.failed_step,
            quantity=origin.quantity,
            headline=headline(origin),
            tensors=tuple(map(_tensor_cells, (*origin.inputs, *output))),
            rows=tuple(map(_row_cells, origin.rows)),
            n_rows=n_rows_text(origin) if origin.n_rows else "",
            before=() if before is None else tuple(map(str.strip, before_lines(before))),
        )


def _tensor_cells(values: TensorRange) -> Cells:
    shape = "×".join(map(str, values.shape)) or "scalar"
    low, high = (NOT_KNOWN if value is None else short_number(value) for value in (values.low, values.high))
    return values.name, shape, values.dtype, low, high, f"{values.n_inf:,}", f"{values.n_nan:,}"


def _row_cells(row: BatchRow) -> Cells:
    example = NOT_KNOWN if row.example is None else f"{row.example:,}"
    positions = ", ".join(map(str, row.positions)) or NOT_KNOWN
    return f"{row.row + 1:,}", example, positions, " ".join(row.text.split())
