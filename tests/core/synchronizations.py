"""Finds the places where code would wait for a GPU, on a machine that has none."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

WAITING_METHODS = {"tolist", "numpy", "__array__"}
"""Methods of a tensor that read its values without an operator; the others read them with one of the next set."""
WAITING_OPERATORS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim", "equal"}
"""Operators whose result, or its shape, depends on values that the device has to compute first."""


class _Methods(TorchFunctionMode):
    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in WAITING_METHODS:
            self._names.append(name)
        return func(*args, **(kwargs or {}))


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self, names: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._names = names

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = func.overloadpacket.__name__  # type: ignore[attr-defined]
        by_mask = name in ("index", "index_put_") and any(
            index is not None and index.dtype == torch.bool for index in args[1]
        )
        if name in WAITING_OPERATORS or by_mask:
            self._names.append(name)
        return func(*args, **(kwargs or {}))


@contextmanager
def synchronizations() -> Iterator[list[str]]:
    """Yield a list that gets the name of each operation that would wait for a GPU."""
    names: list[str] = []
    with _Methods(names), _Operators(names):
        yield names
