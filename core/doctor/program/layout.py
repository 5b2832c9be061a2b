"""Finds along which axis the rows of a program's batches lie, and turns batches so that it is the first."""

from dataclasses import dataclass

from torch import Tensor, nn

from tui_lab.core.doctor.program.batch import Batch, nth_tensor, numbered
from tui_lab.core.doctor.program.calls import Call, output_of
from tui_lab.core.doctor.program.ids_place import IdsPlace, other_values
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.tokens import logits_in

AGREEMENT = 0.9
"""Fraction of targets that equal the next ids along an axis, above which rows lie along it."""

MIN_COUNTED = 0.1
"""Fraction of the targets that count, at least. A few may equal ids of the next row by chance, as in windows."""


@dataclass(frozen=True)
class Layout:
    """How tensors of the user's batches are turned so that rows lie along the first axis.

    ids: the number of the tensor that gives the number of rows. swapped: numbers of tensors [T, B, …], if
    `time_first`. flat: numbers of tensors [T · B] or [B · T].
    """

    ids: int
    time_first: bool
    swapped: frozenset[int] = frozenset()
    flat: frozenset[int] = frozenset()

    def turned(self, batch: Batch) -> Batch:
        """Return a batch of the user with rows along the first axis."""
        rows = nth_tensor(batch, self.ids).shape[1 if self.time_first else 0]

        def turn(number: int, tensor: Tensor) -> Tensor:
            if number in self.flat:
                return tensor.view(-1, rows).t().contiguous() if self.time_first else tensor.view(rows, -1)
            return tensor.transpose(0, 1).contiguous() if number in self.swapped else tensor

        return numbered(batch, turn)

    def restored(self, batch: Batch) -> Batch:
        """Return the batch as the user's code expects it."""

        def turn(number: int, tensor: Tensor) -> Tensor:
            if number in self.flat:
                return (tensor.t() if self.time_first else tensor).reshape(-1)
            return tensor.transpose(0, 1).contiguous() if number in self.swapped else tensor

        return numbered(batch, turn)


def find_layout(
    model: nn.Module, call: Call, batch: Batch, sample: Batch, logits: Tensor, ids: IdsPlace | None
) -> Layout | None:
    """Return how batches have to be turned; None if they are right as they are."""
    tensors = list(tensors_of(batch))
    number = ids.number if ids else 0
    y = call.targets(batch) if call.targets else None
    time_first = _is_time_first(model, call, batch, sample, logits, ids)
    shape = tensors[number].shape
    if len(shape) < 2:
        return None
    flat = {n for n, t in enumerate(tensors) if t is y and t.dim() == 1 and ids and t.numel() == shape[0] * shape[1]}
    if not time_first:
        return Layout(number, False, flat=frozenset(flat)) if flat else None
    swapped = {
        n
        for n, t in enumerate(tensors)
        if n == number or (t.dim() >= 2 and t.shape[1] == shape[1] and (t.shape[0] != shape[1] or t.shape == shape))
    }
    return Layout(number, True, frozenset(swapped), frozenset(flat))


def _is_time_first(
    model: nn.Module, call: Call, batch: Batch, sample: Batch, logits: Tensor, ids: IdsPlace | None
) -> bool:
    """Return whether rows lie along the second axis: by the targets if these tell it, else by the model."""
    if ids is not None and ids.axis is not None:
        return ids.axis == 0
    x = nth_tensor(batch, ids.number if ids else 0)
    y = call.targets(batch) if call.targets else None
    if x.dim() < 2 or min(x.shape[:2]) < 2:
        return False
    if isinstance(y, Tensor) and ids is not None and y.numel() == x.numel():
        y = y.view(x.shape)
        along_rows = _agreement(x[:, 1:], y[:, :-1])
        along_columns = _agreement(x[1:], y[:-1])
        if max(along_rows, along_columns) > AGREEMENT and min(along_rows, along_columns) < AGREEMENT:
            return along_columns > along_rows
    if isinstance(y, Tensor) and ids is None and y.dim() and y.shape[0] != x.shape[0] == logits.shape[0]:
        return False
    if isinstance(y, Tensor) and ids is None and y.dim() == 1:
        return y.shape[0] == x.shape[1] != x.shape[0]
    return _independent_columns(model, call, sample, ids)


def _agreement(ids: Tensor, targets: Tensor) -> float:
    """Return the fraction of targets that equal ids; 0 if too few targets count to tell it."""
    counted = targets >= 0
    if int(counted.sum()) < MIN_COUNTED * counted.numel():
        return 0.0
    return float((ids == targets)[counted].float().mean())


def _independent_columns(model: nn.Module, call: Call, batch: Batch, ids: IdsPlace | None) -> bool:
    """Return whether the output's columns depend on their own inputs alone, and its rows on those of others."""
    number = ids.number if ids else 0
    x = nth_tensor(batch, number)
    if ids is None and x.dim() < 3:
        return False

    def output(values: Tensor) -> Tensor | None:
        changed = numbered(batch, lambda n, t: values if n == number else t)
        logits = logits_in(output_of(model, call.run, changed))
        if ids is not None and ids.flat:
            logits = logits.view(*x.shape, -1)
        return logits if logits.dim() >= 3 and logits.shape[:2] == x.shape[:2] else None

    before = output(x)
    if before is None or min(before.shape[:2]) < 2:
        return False
    others = other_values(x)
    other_column = x.clone()
    other_column[:, 0] = others[:, 0]
    other_row = x.clone()
    other_row[0] = others[0]
    by_column = output(other_column)
    by_row = output(other_row)
    assert by_column is not None and by_row is not None
    return _same(by_column[:, 1:], before[:, 1:]) and not _same(by_row[1:], before[1:])


def takes_time_first(model: nn.Module, ids: Tensor) -> bool:
    """Return whether a model of ids [T, B] → logits [T, B, V] keeps the columns apart, and not the rows."""
    call = Call("model(x)", lambda model, batch: model(batch))
    return _independent_columns(model, call, ids, IdsPlace(0))


def _same(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= 1e-5 * b.abs().max())
