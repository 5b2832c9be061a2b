"""Updates that a loop makes without an optimizer, as steps of its record."""

from collections.abc import Callable

from torch import Tensor

from tui_lab.core.doctor.loop.draft import Draft
from tui_lab.core.doctor.loop.gradients import LoopGradients
from tui_lab.core.watch.model.model_search import parameters_of
from tui_lab.core.watch.optimizer.updates_by_hand import ManualOptimizer, UpdatesByHand


class StepsByHand:
    """Call `backward` and `after_backward` around a backward pass, and `update` before each later call of the model.

    book: measures the gradients and changes. has_optimizer: () → whether the loop has created an optimizer.
    """

    def __init__(self, gradients: LoopGradients, has_optimizer: Callable[[], bool]) -> None:
        self._updates = UpdatesByHand(has_optimizer)
        self._gradients = gradients

    @property
    def parameters(self) -> list[Tensor]:
        """What the first loss depends on; empty if there is an optimizer, and before the first backward pass."""
        optimizer = self._updates.optimizer
        return [] if optimizer is None else parameters_of([optimizer])

    def turn_off(self) -> None:
        """There is an optimizer, or the loop is over."""
        self._updates.turn_off()

    def backward(self, loss: Tensor) -> None:
        """A backward pass begins."""
        self._updates.backward(loss)

    def after_backward(self) -> None:
        """A backward pass is complete."""
        self._updates.after_backward()
        if self._updates.optimizer is not None:
            self._gradients.keep()

    def _look_at_gradients(self) -> None:
        if self._updates.optimizer is not None:
            self._updates.look_at_gradients()
            self._gradients.keep()

    def clipped(self, draft: Draft) -> None:
        """The gradients were clipped, before an update or after it."""
        if self._updates.has_begun:
            draft.began_by_hand()
        else:
            self._look_at_gradients()

    def clears(self, draft: Draft) -> None:
        """Gradients are about to be cleared. An update that has begun may not be complete.

        A loop may clear the gradients of each module right after it has changed the weights of that one.
        """
        if self._updates.has_begun:
            draft.began_by_hand()
            self._look_at_gradients()

    def update(self, draft: Draft, loss: Tensor | None = None) -> ManualOptimizer | None:
        """Add the update that was made since the last backward pass; return what stands for its optimizer, or None.

        loss: the next one, if it is known.
        """
        optimizer = self._updates.update(loss)
        if optimizer is None:
            return None
        self._gradients.replace(self._updates.replaced)
        rate = self._updates.rate
        rates = self._gradients.updated_by_hand(rate)
        draft.lrs += rates if rate is None or len(rates) > 1 else (rate,)
        draft.began_by_hand()
        draft.stepped_now(optimizer)
        return optimizer
