"""What autograd keeps for the backward pass: torch's hooks for saved tensors, each storage once while it is kept."""

import sys
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.watch.memory.modules_at_work import Call, ModulesAtWork, Place

_MAX_CASTS = 3
"""Operations between a weight and its copy in another precision: a transposition, and the copying."""
_CASTS = ("ToCopyBackward0", "TBackward0", "TransposeBackward0", "PermuteBackward0", "ViewBackward0")


@dataclass
class Storage:
    """Memory that autograd keeps. n: by how many saved tensors.

    shape, dtype: of the first tensor. in_loss: whether a loss function saved it. is_weight: whether it is a copy of a
    weight in another precision.
    """

    bytes: int
    place: Place
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: str
    in_loss: bool
    is_weight: bool
    n: int = 0


class _Saved:
    """What autograd keeps in place of a tensor; its destructor reports when autograd releases the tensor."""

    __slots__ = ("_address", "_kept", "tensor")

    def __init__(self, tensor: Tensor, kept: "KeptTensors", address: int) -> None:
        self.tensor = tensor
        self._kept = kept
        self._address = address

    def __del__(self) -> None:
        self._kept.released(self._address)


class KeptTensors:
    """Follows what autograd saves in the thread that calls `install`.

    first_saved: called when something is saved first, and again after `begin_pass`, with the call of the outermost
    module at work.
    """

    def __init__(self, first_saved: Callable[[Call | None], None]) -> None:
        self.at_work = ModulesAtWork()
        self.storages: dict[int, Storage] = {}
        """What is kept now, by its address."""
        self.in_loss = False
        """Whether a loss function is at work."""
        self.n_unseen = 0
        """Saved tensors without an address, whose size is not known."""
        self.n_saved = 0
        self._first_saved = first_saved
        self._roots: set[int] = set()
        """The outermost modules whose call is known in this pass."""
        self._has_begun = False
        self._thread = threading.get_ident()

    def install(self) -> None:
        """Follow what is saved from now on."""
        self._thread = threading.get_ident()
        torch._C._autograd._push_saved_tensors_default_hooks(self._pack, _unpack)

    def begin_pass(self) -> None:
        """Another forward pass will begin."""
        self._has_begun = False
        self._roots.clear()

    def remove(self) -> bool:
        """Take the hooks away, if they are the innermost ones; return whether they were."""
        hooks = torch._C._autograd._top_saved_tensors_default_hooks(False)
        if hooks is None or hooks[0] != self._pack:
            return False
        torch._C._autograd._pop_saved_tensors_default_hooks()
        return True

    def released(self, address: int) -> None:
        """A saved tensor is kept no longer."""
        storage = self.storages.get(address)
        if storage is not None:
            storage.n -= 1
            if storage.n <= 0:
                self.storages.pop(address, None)

    def kept_outside(self, excluded: Collection[int]) -> Iterator[tuple[int, Storage]]:
        """Yield what is kept now, but not the storages at the `excluded` addresses."""
        return ((address, s) for address, s in list(self.storages.items()) if address not in excluded)

    def _pack(self, tensor: Tensor) -> Any:
        saved = tensor.detach()  # The tensor itself would keep its graph, and itself.
        address = 0
        try:
            address = self._note(tensor)
        except Exception:  # The script must not notice.
            self.n_unseen += 1
        return _Saved(saved, self, address)

    def _note(self, tensor: Tensor) -> int:
        """Note a tensor, and return its address."""
        self.n_saved += 1
        storage = tensor.untyped_storage()
        address = storage.data_ptr()
        if not address:
            self.n_unseen += tensor.numel() > 0
            return 0
        place, call = self.at_work.look(sys._getframe(2))
        root = 0 if call is None else id(call.module)
        if not self._has_begun or root not in self._roots:
            self._has_begun = True
            self._roots.add(root)
            self._first_saved(call)
        if address not in self.storages:
            is_weight = not tensor.is_leaf and _is_copy_of_weight(tensor)
            self.storages[address] = Storage(
                storage.nbytes(),
                place,
                tuple(tensor.shape),
                tensor.dtype,
                tensor.device.type,
                self.in_loss,
                is_weight,
            )
        self.storages[address].n += 1
        return address


def _unpack(saved: _Saved) -> Tensor:
    return saved.tensor


def _is_copy_of_weight(tensor: Tensor) -> bool:
    """Return whether a tensor is a weight in another precision, maybe transposed, as autocast makes it."""
    node = tensor.grad_fn
    has_copied = False
    for _ in range(_MAX_CASTS):
        if node is None or node.name() not in _CASTS:
            return False
        has_copied |= node.name() == _CASTS[0]
        node = node.next_functions[0][0]
        if node is not None and node.name() == "torch::autograd::AccumulateGrad":
            return has_copied
    return False
