"""Which weights of a loop change, and by how much."""

import torch
from torch import Tensor

from tui_lab.core.doctor.loop.loop_parameters import LoopParameters
from tui_lab.core.doctor.loop.norms import norms


class WeightChanges:
    """Compares the weights before and after each update. `unmoved` has the ids of those that no update changed."""

    def __init__(self, parameters: LoopParameters) -> None:
        self._parameters = parameters
        self.before: dict[int, Tensor] = {}
        """The weights before the update that is being made, by parameter id."""
        self.unmoved: dict[int, None] = {}
        self.moves_by_hand = False
        """Whether most weights changed between backward passes without a step of any optimizer."""
        self._first: dict[int, Tensor] | None = {}
        """The weights at the first backward pass; None once an update was seen."""

    def replace(self, old: Tensor, new: Tensor) -> None:
        """The loop has put a new tensor in the place of a parameter."""
        if id(old) in self.unmoved:
            del self.unmoved[id(old)]
            self.unmoved[id(new)] = None
        if id(old) in self.before:
            self.before[id(new)] = self.before.pop(id(old))

    def before_backward(self) -> None:
        """Compare the weights with those at the first backward pass, until most of them have changed."""
        if self._first is None or self.moves_by_hand:
            return
        if not self._first:
            self._first = self._copies()
            return
        compared = self._parameters.compared
        pairs = [(compared[key].detach(), weight) for key, weight in self._first.items() if key in compared]
        changed = sum(now.shape != weight.shape or not torch.equal(now, weight) for now, weight in pairs)
        self.moves_by_hand = 2 * changed > len(pairs)
        if self.moves_by_hand:
            self._first = None

    def before_step(self) -> None:
        """Note the weights before the step of an optimizer."""
        self._first = None
        self.moves_by_hand = False
        self.before = self._copies()

    def keep(self) -> None:
        """Note the weights before an update by hand, unless those before it are there already."""
        if not self.before:
            self.before = self._copies()

    def updated_by_hand(self) -> None:
        """The loop has made an update by itself: such updates need not be looked for any more."""
        self._first = None

    def measure(self) -> tuple[dict[int, float], list[float]]:
        """Return the norms of the changes since `before` that are not zero, by id, and those of all weights before."""
        compared = self._parameters.compared
        keys = [key for key in self.before if key in compared]
        before = [self.before[key] for key in keys]
        differences = [compared[key].detach() - weight for key, weight in zip(keys, before, strict=True)]
        changed = {key: norm for key, norm in zip(keys, norms(differences), strict=True) if norm != 0}
        for key in changed:
            self.unmoved.pop(key, None)
        self.before = {}
        return changed, norms(before)

    def _copies(self) -> dict[int, Tensor]:
        return {key: p.detach().clone() for key, p in self._parameters.compared.items()}
