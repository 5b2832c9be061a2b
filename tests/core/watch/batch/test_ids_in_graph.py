"""Which token ids a loss was computed from."""

import torch
from torch import Tensor, nn

from tui_lab.core.watch.batch.ids_in_graph import ids_in_graph

V = 11


def hidden(x: Tensor, size: int = V) -> Tensor:
    output: Tensor = nn.Embedding(size, 4)(x)
    return output


def test_ids_of_the_largest_embedding_are_those_of_the_tokens() -> None:
    x, segments, positions = torch.randint(V, (3, 5)), torch.randint(2, (3, 5)), torch.arange(5)
    output = nn.Linear(4, V)(hidden(segments, 2) + hidden(x) + hidden(positions, 500))
    assert ids_in_graph(output) is x


def test_several_inputs_of_one_vocabulary_are_not_told_apart() -> None:
    assert ids_in_graph(hidden(torch.zeros(3, 5).long()) + hidden(torch.ones(3, 5).long())) is None


def test_model_without_an_embedding_has_none() -> None:
    assert ids_in_graph(nn.Linear(4, 2)(torch.ones(3, 4))) is None


def test_graph_that_a_backward_pass_has_freed_has_none() -> None:
    output = hidden(torch.zeros(3, 5).long())
    output.sum().backward()  # type: ignore[no-untyped-call]
    assert ids_in_graph(output) is None
