"""Values of tensors that are read later, so that a GPU does not wait for the recorder."""

from collections.abc import Sequence

import torch
from torch import Tensor

from tui_lab.core.watch.model.model_calls import is_sharded

Scalar = Tensor | float
"""A number, or a tensor [] whose value is read later."""


def scalar_of(tensor: Tensor) -> Scalar:
    """Return the value of a tensor of one element if it is on the CPU.

    There, reading it is cheaper than any operation.
    """
    if tensor.is_cpu and not is_sharded(tensor):
        return float(tensor.item())
    return tensor.detach()


class LaterValues:
    """Copies of tensors on the CPU. On a GPU the copies are only queued, all in one; `read` waits for them."""

    def __init__(self, scalars: Sequence[Scalar], rows: Sequence[Tensor]) -> None:
        """rows: int64 [n] each."""
        self._event: torch.cuda.Event | None = None
        self._scalars = list(scalars)
        self._rows = list(rows)
        tensors = [t for t in (*scalars, *rows) if isinstance(t, Tensor)]
        if not any(t.is_cuda for t in tensors):
            return
        if len({t.device for t in tensors}) == 1:
            self._copy_together()
        else:
            self._scalars = [t.to("cpu", non_blocking=True) if isinstance(t, Tensor) else t for t in scalars]
            self._rows = [t.to("cpu", non_blocking=True) for t in rows]
        self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._event.record()

    @property
    def is_complete(self) -> bool:
        """Whether `read` would not wait."""
        return self._event is None or bool(self._event.query())  # type: ignore[no-untyped-call]

    def read(self) -> tuple[list[float], list[list[int]]]:
        """Return the values of the scalars and of the rows."""
        if self._event is not None:
            self._event.synchronize()
        return [float(t) for t in self._scalars], [t.tolist() for t in self._rows]

    def _copy_together(self) -> None:
        tensors = [t.reshape(()).to(torch.float64) for t in self._scalars if isinstance(t, Tensor)]
        if tensors:
            copies = iter(torch.stack(tensors).to("cpu", non_blocking=True).unbind())
            self._scalars = [next(copies) if isinstance(t, Tensor) else t for t in self._scalars]
        if self._rows:
            sizes = [len(t) for t in self._rows]
            self._rows = list(torch.split(torch.cat(self._rows).to("cpu", non_blocking=True), sizes))


class LossSum:
    """The losses of the micro-batches of a step, added up where they are.

    A script that accumulates either divides each loss by the number of micro-batches or not. A loss that is a quotient
    was divided; otherwise the value of its loss function for the first micro-batch shows which. Without one it is taken
    to divide, as the mean's gradient needs.
    """

    def __init__(self) -> None:
        self.n = 0
        self._sum: Scalar | None = None
        self._first: Scalar | None = None
        self._criterion: Scalar | None = None
        self._is_quotient = False

    def add(self, loss: Tensor, criterion: Tensor | None) -> Scalar:
        """Add the loss from which a backward pass starts, and return its value.

        criterion: what the loss function returned, if known.
        """
        value = _copied(loss)
        if self._sum is None:
            self._sum = value
            if criterion is not None:
                self._criterion = value if criterion is loss else scalar_of(criterion)
            self._is_quotient = loss.grad_fn is not None and "Div" in loss.grad_fn.name()
        else:
            if self._first is None:
                self._first = self._sum
            self._sum = self._sum + value
        self.n += 1
        return value

    def scalars(self) -> list[Scalar]:
        """Return what `mean` needs to read."""
        every = (self._sum, self._first, self._criterion) if self.n > 1 else (self._sum,)
        return [scalar for scalar in every if scalar is not None]

    def mean(self, values: Sequence[float]) -> float:
        """Return the mean loss of the micro-batches, from the values of `scalars`."""
        if self.n <= 1:
            return values[0]
        total, first = values[:2]
        is_divided = True
        if len(values) > 2 and values[2] != 0 and not self._is_quotient:
            # Half-way between 1 (not divided) and 1/n (divided).
            is_divided = abs(first / values[2]) < (1 + 1 / self.n) / 2
        return total if is_divided else total / self.n


def _copied(loss: Tensor) -> Scalar:
    """Return a copy, in float64 where the device has it: the sum of many losses in bfloat16 would lose digits."""
    value = scalar_of(loss)
    if isinstance(value, float):
        return value
    copy = value.to(torch.float32 if loss.device.type == "mps" else torch.float64, copy=True)
    return copy.reshape(()) if copy.dim() else copy
