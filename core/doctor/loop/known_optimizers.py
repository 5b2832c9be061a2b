"""Which optimizers a loop has, and whether it creates them again."""

from collections.abc import Sequence

from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.doctor.loop.draft import Draft
from tui_lab.core.doctor.loop.lines import user_line
from tui_lab.core.watch.model.model_search import parameters_of


class KnownOptimizers:
    """created: those that exist, whether or not they have stepped.

    stepped: those that have stepped, in the order of their first step; of several over the same weights the last.
    n_rebuilt: how often another optimizer took over the weights of one that stepped.
    """

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self.created = list(optimizers)
        self.stepped: list[Optimizer] = []
        self.n_rebuilt = 0
        self.created_at = ""
        """The line that created the last optimizer; "" if the loop created none."""

    @property
    def rebuilt_at(self) -> str:
        """The line that created the last optimizer, if one took over the weights of another; else ""."""
        return self.created_at if self.n_rebuilt else ""

    @property
    def trained(self) -> list[Tensor]:
        """The parameters of all that exist."""
        return parameters_of(self.created)

    def add_created(self, optimizer: Optimizer) -> None:
        """Note that the loop created an optimizer."""
        self.created.append(optimizer)
        self.created_at = user_line()

    def add_stepped(self, optimizer: Optimizer, draft: Draft) -> bool:
        """Note that an optimizer is about to step in the update `draft`. Return whether it is its first step.

        It takes the place of one that stepped the same weights in an earlier update.
        """
        if any(one is optimizer for one in self.stepped):
            return False
        weights = {id(p) for p in parameters_of([optimizer])}
        for number, other in enumerate(self.stepped):
            if {id(p) for p in parameters_of([other])} == weights and not draft.has_stepped(other):
                self.n_rebuilt += 1
                self.stepped[number] = optimizer
                self.created = [each for each in self.created if each is not other]
                return True
        self.stepped.append(optimizer)
        return True
