"""The graph that computed a loss: which tensors a backward pass gives gradients."""

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.autograd.function import BackwardCFunction

from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.kernels.autograd_graph import graph_leaves, graph_nodes


def is_detached(loss: Tensor, weights: Iterable[Tensor]) -> bool:
    """Return whether a backward pass of `loss` gives no weight a gradient.

    Such a loss has no graph, or one that ends at numbers which were made from another loss. weights: tensors that are
    trained without being parameters. A graph with an autograd.Function counts as attached, since the function may
    reach weights that are not in the graph, as torch.utils.checkpoint does.
    """
    if not loss.requires_grad:
        return True
    if any(isinstance(node, BackwardCFunction) for node in graph_nodes(loss)):
        return False
    trained = {id(weight) for weight in weights}
    ends = [loss] if loss.is_leaf else graph_leaves(loss)
    return not any(isinstance(leaf, nn.Parameter) or id(leaf) in trained or leaf.numel() > 1 for leaf in ends)


def when_reached(output: Any, call: Callable[[], None]) -> None:
    """Call `call` once, when a backward pass first reaches a tensor of `output`; now, if none has a graph."""
    calls = [call]

    def reached(gradient: Tensor) -> None:
        if calls:
            calls.pop()()

    attached = [tensor for tensor in tensors_of(output) if tensor.requires_grad]
    for tensor in attached:
        tensor.register_hook(reached)  # type: ignore[no-untyped-call]
    if not attached:
        call()
