"""Which rows of the batch the entries of a tensor belong to, as the shapes of tensors along a model show."""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tui_lab.core.nonfinite.ranges import has_values, real

LARGE_SHARE = 0.5
"""Of the largest value: the entries of a sum that count as those that made it overflow."""


@dataclass(frozen=True)
class Extent:
    """Where the first axis of a tensor lies: it covers the indices from `start` on of an axis of `total`."""

    total: int
    start: int


def key_of(tensor: Tensor) -> int:
    """Return a number that is the same for all views of one memory, while that is in use."""
    key: int = tensor.untyped_storage()._cdata
    return key


@dataclass
class BatchShape:
    """The batch of the present call: n_rows rows of n_positions tokens, 0 if the model takes none.

    first_row: the place of its first row in the whole batch, which may be cut into micro-batches.
    """

    n_rows: int
    n_positions: int = 0
    first_row: int = 0


@dataclass
class Rows:
    """A few rows with some of their positions, each counted from 0."""

    positions: dict[int, list[int]] = field(default_factory=dict)

    def add(self, row: int, position: int | None) -> None:
        positions = self.positions.setdefault(row, [])
        if position is not None and position not in positions:
            positions.append(position)


class RowFinder:
    """Maps entries of tensors to rows of the batch.

    The first axis of a tensor has B rows, or B·T, B·H, … entries in row-major order; or it is T and the second is B.
    The place of a part of such a tensor (a chunk of the head's rows) is its place in the memory of the whole, also for
    results computed from it. What has been computed without the batch has no rows.
    """

    def __init__(self) -> None:
        self.shape = BatchShape(0)
        self._parts: dict[int, Extent] = {}
        self._given: set[int] = set()
        self._of_batch: set[int] = set()

    def begin(self, shape: BatchShape, tensors: Iterable[Tensor]) -> None:
        """The model is called with `tensors`, which hold the batch."""
        self.shape = shape
        self._given = {key_of(tensor) for tensor in tensors}
        self._of_batch |= self._given

    def depends_on_batch(self, tensor: Tensor) -> bool:
        return key_of(tensor) in self._of_batch

    def computed(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """An operation made `outputs`, new memory, from `inputs`."""
        from_batch = any(key_of(tensor) in self._of_batch for tensor in inputs)
        for output in outputs:
            key = key_of(output)
            self._parts.pop(key, None)
            (self._of_batch.add if from_batch else self._of_batch.discard)(key)
            if not from_batch or not output.dim():
                continue
            for tensor in inputs:
                if not tensor.dim() or tensor.shape[0] != output.shape[0] or not self.depends_on_batch(tensor):
                    continue
                extent = self._extent(tensor)
                if extent.total != tensor.shape[0]:
                    self._parts[key] = extent
                    break

    def rows_of(self, tensor: Tensor, wrong: Tensor) -> Rows | None:
        """Return the rows of the entries where `wrong`, bool of the tensor's shape, is true; None if not known."""
        B, T = self.shape.n_rows, self.shape.n_positions
        if not B or not tensor.dim() or not self.depends_on_batch(tensor):
            return None
        if tensor.dim() >= 2 and tensor.shape[0] == T != B and tensor.shape[1] == B:
            wrong = wrong.transpose(0, 1)
            extent = Extent(B, 0)
        else:
            extent = self._extent(tensor)
        if extent.total % B:
            return None
        rows = Rows()
        per_row = extent.total // B
        for index in wrong.flatten(1).any(dim=1).nonzero()[:, 0].tolist() if wrong.dim() > 1 else _indices(wrong):
            row, within = divmod(extent.start + index, per_row)
            for position in self._positions(wrong[index], within, per_row):
                rows.add(self.shape.first_row + row, position)
        return rows

    def _positions(self, wrong: Tensor, within: int, per_row: int) -> list[int] | list[None]:
        """Return the positions in one row. wrong: its entries; within: the place of them among per_row such parts."""
        T = self.shape.n_positions
        if T and per_row in (T, T - 1) and per_row > 1:
            return [within]
        for axis, size in enumerate(wrong.shape):
            if T > 1 and size in (T, T - 1):
                others = [other for other in range(wrong.dim()) if other != axis]
                flags = wrong.amax(dim=others) if others else wrong
                return _indices(flags)
        return [None]

    def _extent(self, tensor: Tensor) -> Extent:
        """Return where the first axis of a tensor lies in the memory that it is a view of."""
        n = tensor.shape[0]
        stride = tensor.stride(0)
        per_entry = tensor.numel() // n if n else 0
        # What is given may be a part of a larger batch, whose other rows are not in this call.
        if stride != per_entry or not stride or key_of(tensor) in self._given:
            return Extent(n, 0)
        start = tensor.storage_offset() // stride
        part = self._parts.get(key_of(tensor))
        if part is not None:
            return Extent(part.total, part.start + start)
        return Extent(tensor.untyped_storage().nbytes() // tensor.element_size() // stride, start)

    def largest(self, inputs: list[Tensor]) -> Rows | None:
        """Return the rows that hold the largest values of `inputs`; None if they have no rows."""
        candidates = [t for t in inputs if has_values(t) and t.dim() and self.depends_on_batch(t)]
        for tensor in sorted(candidates, key=lambda t: -float(real(t).abs().max())):
            size = real(tensor).abs()
            rows = self.rows_of(tensor, size >= LARGE_SHARE * size.max())
            if rows is not None:
                return rows
        return None

    def of_product(self, a: Tensor, b: Tensor, wrong: Tensor) -> Rows | None:
        """Return the rows whose terms are the largest in the first wrong entry of the product a b.

        a: [M, K], b: [K, N] with the rows along its first axis, wrong: bool [M, N].
        """
        m, n = wrong.nonzero()[0].tolist()
        terms = (real(a)[m].double() * real(b)[:, n].double()).abs()  # [K]
        large = terms >= LARGE_SHARE * terms.max()
        return self.rows_of(b, large[:, None].expand(b.shape))


def _indices(flags: Tensor) -> list[int]:
    indices: list[int] = torch.as_tensor(flags).nonzero()[:, 0].tolist()
    return indices
