"""The optimizers of a script: those that have stepped, and the one that ends a step of the run."""

import weakref

from torch.optim import Optimizer


class ScriptOptimizers:
    """Keeps none of them alive."""

    def __init__(self) -> None:
        self._stepped: list[weakref.ref[Optimizer]] = []
        self._last: weakref.ref[Optimizer] | None = None

    @property
    def present(self) -> list[Optimizer]:
        """Those that have stepped, in that order, and that the script still has."""
        return [optimizer for ref in self._stepped if (optimizer := ref()) is not None]

    @property
    def has_last(self) -> bool:
        """Whether a step was completed, so that it is known which one ends a step."""
        return self._last is not None

    def add(self, optimizer: Optimizer) -> bool:
        """Note that an optimizer steps; return whether it is new."""
        present = self.present
        if any(optimizer is other for other in present):
            return False
        self._stepped = [weakref.ref(other) for other in [*present, optimizer]]
        return True

    def set_last(self, optimizer: weakref.ref[Optimizer]) -> None:
        """Note that this one has ended a step."""
        self._last = optimizer

    def is_last(self, optimizer: weakref.ref[Optimizer]) -> bool:
        """Whether this is the one that ends a step."""
        return self._last == optimizer
