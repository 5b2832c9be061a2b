"""Where a step of a script ends, which may have several optimizers."""

import weakref

from torch.optim import Optimizer

from tui_lab.core.watch.optimizer.weak_optimizers import WeakOptimizers


class StepCycle:
    """Each optimizer steps at most once in a step. Keeps none of them alive."""

    def __init__(self) -> None:
        self._stepped = WeakOptimizers()
        self._last: weakref.ref[Optimizer] | None = None

    def before(self, optimizer: Optimizer) -> bool:
        """Return whether a step has ended before this one of an optimizer, which was not known until now."""
        if optimizer not in self._stepped:
            return False
        self._last = self._stepped.latest
        self._stepped.clear()
        return True

    def after(self, optimizer: Optimizer) -> bool:
        """An optimizer has stepped; return whether that ends the step."""
        self._stepped.add(optimizer)
        if self._last is None or self._last() is not optimizer:
            return False
        self._stepped.clear()
        return True
