"""What becomes more from step to step: tensors, and graphs of autograd that a variable keeps."""

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import FrameType

from torch import Tensor
from torch.autograd.graph import Node

from tui_lab.core.watch.memory.holding_variables import Variable, place_of_addition, variables_with_tensors
from tui_lab.core.watch.memory.live_tensors import sizes_of
from tui_lab.core.watch.memory.step_memory import Growth

MIN_STEPS = 3
"""Steps in a row that must add something."""
MIN_BYTES = 2**16
"""A step, of tensors without a graph: a few numbers that a script collects are not a problem."""
MAX_NODES = 500_000


@dataclass
class _Moment:
    """What there is between two steps. by_variable: nodes of graphs, and bytes, that each variable holds."""

    bytes: int
    nodes: int
    by_variable: dict[Variable, tuple[int, int]] = field(default_factory=dict)


class StepGrowth:
    """Call `look` after each step."""

    def __init__(self) -> None:
        self._moments: list[_Moment] = []

    def look(self, tensors: Iterable[Tensor], n_bytes: int, frame: FrameType | None = None) -> None:
        """Look at all tensors, which have `n_bytes` with what graphs keep. frame: in which the step was made."""
        n_nodes = count_nodes(tensors)
        moment = _Moment(n_bytes, n_nodes)
        for variable, held in variables_with_tensors(frame or sys._getframe(1)).items():
            moment.by_variable[variable] = (count_nodes(held), sum(sizes_of(held).values()))
        self._moments.append(moment)

    def growth(self) -> Growth | None:
        """Return what each of the latest steps has added; None if they have not all added something."""
        latest = self._moments[-MIN_STEPS - 1 :]
        if len(latest) <= MIN_STEPS:
            return None
        n_bytes = _smallest_rise([each.bytes for each in latest])
        n_nodes = _smallest_rise([each.nodes for each in latest])
        n_bytes = n_bytes if n_bytes >= MIN_BYTES or n_nodes else 0
        if not n_bytes and not n_nodes:
            return None
        variable = _risen(latest, of_nodes=n_nodes > 0)
        if variable is None:
            return Growth(n_bytes, n_nodes, "", "")
        return Growth(n_bytes, n_nodes, variable.name, place_of_addition(variable))


def count_nodes(tensors: Iterable[Tensor]) -> int:
    """Return how many nodes of autograd's graph tensors keep, each once."""
    waiting: list[Node | None] = [tensor.grad_fn for tensor in tensors if not tensor.is_leaf]
    visited: set[Node] = set()
    while waiting and len(visited) < MAX_NODES:
        node = waiting.pop()
        if node is not None and node not in visited:
            visited.add(node)
            waiting += [following for following, _ in node.next_functions]
    return len(visited)


def _smallest_rise(values: list[int]) -> int:
    """Return the smallest difference between neighbors, 0 if any is not above 0."""
    return max(0, min(after - before for before, after in zip(values, values[1:], strict=False)))


def _risen(moments: list[_Moment], *, of_nodes: bool) -> Variable | None:
    """Return the variable that has risen most in each of the moments; None if there is none."""
    index = 0 if of_nodes else 1
    names: Mapping[Variable, tuple[int, int]] = moments[-1].by_variable
    rises = {
        variable: _smallest_rise([moment.by_variable.get(variable, (0, 0))[index] for moment in moments])
        for variable in names
    }
    best = max(rises, key=lambda variable: rises[variable], default=None)
    return best if best is not None and rises[best] else None
