"""The parameters of a loop, as they become known."""

from collections.abc import Iterable

from torch import Tensor

from tui_lab.core.watch.model.model_calls import is_sharded

MAX_ELEMENTS = 2**24
"""Elements of all parameters that are copied to compare them; the largest parameters beyond it are not compared."""


class LoopParameters:
    """All parameters with their names, by id. compared: the trainable ones that are compared, the smallest first."""

    def __init__(self) -> None:
        self.compared: dict[int, Tensor] = {}
        self._named: dict[int, tuple[str, Tensor]] = {}

    def add(self, named: Iterable[tuple[str, Tensor]]) -> bool:
        """Add parameters; one that is there already gets the new name if it has none. Return whether any is new."""
        new = [(name, p) for name, p in named if not self._named.get(id(p), ("", p))[0]]
        if not new:
            return False
        self._named |= {id(parameter): (name, parameter) for name, parameter in new}
        trainable = [p for _, p in self._named.values() if p.requires_grad and not is_sharded(p)]
        n_left = MAX_ELEMENTS
        self.compared = {}
        for parameter in sorted(trainable, key=lambda p: p.numel()):
            n_left -= parameter.numel()
            if n_left >= 0:
                self.compared[id(parameter)] = parameter
        return True

    def replace(self, old: Tensor, new: Tensor) -> None:
        """Put a new tensor in the place of a parameter; the name stays."""
        if id(old) in self._named:
            self._named[id(new)] = self._named.pop(id(old))[0], new
        if id(old) in self.compared:
            del self.compared[id(old)]
            self.compared[id(new)] = new

    def tensors(self, ids: Iterable[int]) -> tuple[Tensor, ...]:
        """Return the parameters with these ids."""
        return tuple(self._named[key][1] for key in ids)

    def names(self, ids: Iterable[int]) -> tuple[str, ...]:
        """Return the name of each of these parameters, or its shape if it belongs to no known module."""
        return tuple(name or f"a tensor {list(p.shape)} of no module" for name, p in (self._named[key] for key in ids))
