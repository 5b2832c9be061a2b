"""Adds up what a step of a script holds: the account of its tensors at a few moments."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from tui_lab.core.watch.batch.target_places import continues_along_first
from tui_lab.core.watch.memory.kept_tensors import KeptTensors, Storage
from tui_lab.core.watch.memory.largest_parts import largest_parts
from tui_lab.core.watch.memory.live_tensors import all_tensors, dtype_name, sizes_of
from tui_lab.core.watch.memory.step_memory import Kept, OtherPart
from tui_lab.core.watch.model.model_search import inputs_of
from tui_lab.core.watch.variables.script_objects import instances_of

MAX_OTHERS = 4
SQUARE = 0.1
"""Of what varies with the rows: more that grows with their square is too much for an estimate."""
MIN_T = 32
"""Rows and columns of a matrix from which it is taken for one of attention weights."""


class Batch:
    """The tensors that the model and the loss got in one forward pass."""

    def __init__(self) -> None:
        self.sizes: dict[int, int] = {}
        """Bytes by the address of the storage: of a slice, those of the slice."""
        self.rows: int | None = None
        self._x: Tensor | None = None
        self._has_time_first = False
        """Whether the model has layers that take [T, B, C], so that only targets can tell which are the rows."""

    def add(self, values: object) -> None:
        """Add the tensors in `values` that no operation with gradients has made."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.grad_fn is None and not isinstance(value, nn.Parameter):
                for address in sizes_of([value]):
                    self.sizes[address] = max(self.sizes.get(address, 0), value.nbytes)

    def called(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], module: nn.Module | None = None) -> None:
        """The model was called. module: which one."""
        self.add((args, dict(kwargs)))
        x = inputs_of(args, kwargs).x
        if self._x is None and x is not None and x.dim():
            self._x = x
            self._has_time_first = module is not None and has_time_first(module)
            self.rows = None if self._has_time_first else int(x.shape[0])

    def targets(self, targets: Tensor) -> None:
        """The loss got targets."""
        self.add(targets)
        x = self._x
        if x is None:
            return
        if self._has_time_first and self.rows is None:
            self.rows = _rows_by_targets(x, targets)
        elif self.rows is None:
            return
        elif not x.is_floating_point() and continues_along_first(x, targets):
            self.rows = int(x.shape[1])
        elif targets.dim() and targets.numel() % self.rows:
            self.rows = None


def has_time_first(model: nn.Module) -> bool:
    """Return whether a layer of a model takes [T, B, C] where others take [B, T, C]."""
    layers = (nn.RNNBase, nn.MultiheadAttention)
    return any(isinstance(module, layers) and not module.batch_first for module in nn.Module.modules(model))


def _rows_by_targets(x: Tensor, targets: Tensor) -> int | None:
    """Return the rows of x, [B, T, …] or [T, B, …]; None if the targets do not tell which it is."""
    if x.dim() < 2 or x.shape[0] == x.shape[1]:
        return int(x.shape[0])
    if targets.dim() == 1 and targets.numel() in x.shape[:2]:
        return targets.numel()
    if x.is_floating_point() or targets.numel() != x.numel():
        return None
    if continues_along_first(x, targets):
        return int(x.shape[1])
    by_rows = continues_along_first(x.t(), targets.reshape(x.shape).t())
    return int(x.shape[0]) if by_rows else None


def kept_now(kept: KeptTensors, excluded: Collection[int], logits: Mapping[int, int], rows: int | None) -> Kept:
    """Return what autograd keeps at this moment.

    excluded: the addresses of weights, buffers and the batch. logits: bytes of those that are still there, by address.
    """
    entries = dict(kept.kept_outside(excluded))
    of_loss = {address: s.bytes for address, s in entries.items() if s.in_loss} | dict(logits)
    of_model = [s for address, s in entries.items() if address not in of_loss]
    varying = sum(s.bytes for s in of_model if not s.is_weight and _has_rows(s, rows)) + sum(of_loss.values())
    square = 0 if rows is None else sum(s.bytes for s in entries.values() if _is_square_in(s, rows))
    is_linear = square <= SQUARE * (varying + 1)
    return Kept(
        activations=sum(s.bytes for s in of_model),
        loss=sum(of_loss.values()),
        parts=largest_parts([(s.place, s.bytes) for s in of_model]),
        weight_copies=sum(s.bytes for s in of_model if s.is_weight),
        attention=sum(s.bytes for s in of_model if _is_attention(s, rows)),
        float32=sum(s.bytes for s in of_model if s.dtype is torch.float32),
        per_row=varying / rows if rows and is_linear else None,
        compiled=sum(s.bytes for s in of_model if s.place.is_compiled),
        unseen=kept.n_unseen,
    )


def _has_rows(storage: Storage, rows: int | None) -> bool:
    """Return whether a tensor has a dimension for the rows of the batch, maybe together with others."""
    return rows is not None and any(size and size % rows == 0 for size in storage.shape)


def _is_square_in(storage: Storage, rows: int) -> bool:
    """Return whether a tensor relates all rows with all rows, so that it grows with their square."""
    return rows > 1 and storage.shape[:2] == (rows, rows) and len(storage.shape) == 2


def _is_attention(storage: Storage, rows: int | None) -> bool:
    """Return whether a tensor is [B, heads, T, T] or [B * heads, T, T], as attention weights are."""
    shape = storage.shape
    if len(shape) not in (3, 4) or not shape[-1] == shape[-2] >= MIN_T:
        return False
    return len(shape) == 4 or (rows is not None and shape[0] != rows)


def others_now(device: str, known: Collection[int]) -> tuple[OtherPart, ...]:
    """Return the tensors that are not at `known` addresses: those of each further model, and the largest others."""
    tensors = all_tensors(device)
    sizes = {address: size for address, size in sizes_of(tensors).items() if address not in known}
    parts = []
    for module in _outermost(instances_of(nn.Module)):
        own = sizes_of([*module.parameters(), *module.buffers()])
        size = sum(sizes.pop(address) for address in own if address in sizes)
        if size:
            parts.append(OtherPart(type(module).__name__, size))
    largest: dict[int, Tensor] = {}
    for tensor in tensors:
        for address in sizes_of([tensor]):
            if address in sizes and (address not in largest or tensor.nbytes > largest[address].nbytes):
                largest[address] = tensor
    parts += [OtherPart(_shape(largest[address], size), size) for address, size in sizes.items()]
    return _largest(parts)


def _shape(tensor: Tensor, n_bytes: int) -> str:
    """Return what a tensor is, which lies in a storage of n_bytes. That of a mean may be as large as its input."""
    name = f"{list(tensor.shape)} {dtype_name(tensor.dtype)}"
    return name if tensor.nbytes >= n_bytes / 2 else f"{name}, in a larger storage"


def _largest(parts: Sequence[OtherPart]) -> tuple[OtherPart, ...]:
    """Return parts of the same kind together, the largest first, and small ones as one."""
    together: dict[str, int] = {}
    for part in parts:
        together[part.what] = together.get(part.what, 0) + part.bytes
    by_size = sorted(together.items(), key=lambda each: each[1], reverse=True)
    shown = [OtherPart(what, size) for what, size in by_size[:MAX_OTHERS]]
    rest = sum(size for _, size in by_size[MAX_OTHERS:])
    return (*shown, OtherPart("", rest)) if rest else tuple(shown)


def _outermost(modules: Iterable[nn.Module]) -> list[nn.Module]:
    """Return the modules that are in no other one."""
    every = list(modules)
    inner = {id(part) for module in every for part in module.children()}
    return [module for module in every if id(module) not in inner]
