"""Where a step of a script ends, which may have several optimizers."""

import weakref

from torch.optim import Optimizer


class StepCycle:
    """Each optimizer steps at most once in a step. Keeps none of them alive."""

    def __init__(self) -> None:
        self._stepped: list[weakref.ref[Optimizer]] = []
        self._last: weakref.ref[Optimizer] | None = None

    def before(self, optimizer: Optimizer) -> bool:
        """Return whether a step has ended before this one of an optimizer, which was not known until now."""
        if not any(optimizer is ref() for ref in self._stepped):
            return False
        self._last = self._stepped[-1]
        self._stepped = []
        return True

    def after(self, optimizer: Optimizer) -> bool:
        """An optimizer has stepped; return whether that ends the step."""
        self._stepped.append(weakref.ref(optimizer))
        if self._last is None or self._last() is not optimizer:
            return False
        self._stepped = []
        return True
