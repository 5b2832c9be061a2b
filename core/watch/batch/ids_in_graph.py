"""Which token ids a loss was computed from, as autograd keeps them: of a step whose model was not known when it ran."""

from itertools import islice
from typing import Any

import torch
from torch import Tensor

from tui_lab.core.kernels.autograd_graph import graph_nodes

LOOKUP = "EmbeddingBackward0"
"""The name of the node of torch.nn.functional.embedding."""
MAX_NODES = 50_000


def ids_in_graph(output: Tensor) -> Tensor | None:
    """Return the ids [B, T] that were looked up in the largest embedding behind `output`, before its backward pass.

    None if there are none, or others that were looked up in an embedding of the same size.
    """
    largest = 0
    ids: dict[int, Tensor] = {}
    for node in islice(graph_nodes(output), MAX_NODES):
        if node.name() != LOOKUP:
            continue
        size, indices = _lookup(node)
        if indices is None or indices.dim() != 2 or indices.dtype not in (torch.int64, torch.int32) or size < largest:
            continue
        if size > largest:
            largest = size
            ids = {}
        ids[indices.data_ptr()] = indices
    return next(iter(ids.values())) if len(ids) == 1 else None


def _lookup(node: Any) -> tuple[int, Tensor | None]:
    """Return the size of the embedding and the indices."""
    try:
        return int(node._saved_weight_sym_argsize_0), node._saved_indices
    except (AttributeError, RuntimeError):  # Freed, or changed in place.
        return 0, None
