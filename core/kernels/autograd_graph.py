"""The graph that autograd keeps for a tensor."""

from collections.abc import Iterator

from torch import Tensor
from torch.autograd.graph import Node


def graph_nodes(output: Tensor) -> Iterator[Node]:
    """Yield the nodes behind `output`, each once, the last operation first."""
    waiting = [output.grad_fn]
    visited: set[Node] = set()
    while waiting:
        node = waiting.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        yield node
        waiting += [following for following, _ in node.next_functions]


def graph_leaves(output: Tensor) -> list[Tensor]:
    """Return the tensors at the ends of the graph behind `output`: parameters and others that need gradients."""
    ends = {
        id(leaf): leaf for node in graph_nodes(output) if isinstance(leaf := getattr(node, "variable", None), Tensor)
    }
    return list(ends.values())
