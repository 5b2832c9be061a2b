"""Optimizers in the order of their steps, none of which is kept alive."""

import weakref

from torch.optim import Optimizer


class WeakOptimizers:
    """Each of them once. Those that the script has no more are not `present`."""

    def __init__(self) -> None:
        self._refs: list[weakref.ref[Optimizer]] = []

    def __bool__(self) -> bool:
        return bool(self._refs)

    def __contains__(self, optimizer: Optimizer) -> bool:
        return any(ref() is optimizer for ref in self._refs)

    @property
    def present(self) -> list[Optimizer]:
        """Those that the script still has, in order."""
        return [optimizer for ref in self._refs if (optimizer := ref()) is not None]

    @property
    def latest(self) -> weakref.ref[Optimizer] | None:
        """The one that was added last; None if there was none."""
        return self._refs[-1] if self._refs else None

    def add(self, optimizer: Optimizer) -> bool:
        """Add an optimizer at the end and forget those that are gone; return whether it is new."""
        if optimizer in self:
            return False
        self._refs = [weakref.ref(other) for other in [*self.present, optimizer]]
        return True

    def clear(self) -> None:
        self._refs = []
