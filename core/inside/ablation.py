"""Ablation: what the loss becomes when one head, or a layer's whole attention or feed-forward, is taken out.

Zero ablation replaces its output by zeros, as Michel, Levy and Neubig 2019, "Are sixteen heads really better than
one?" mask heads: the head's output is zero before W_O mixes it with the others. Mean ablation replaces it by its mean
over all positions of the measured rows, which keeps what it adds to every position alike (Wang et al. 2022,
"Interpretability in the wild", section 2). The residual stream itself stays: the layer then passes on what it got, in
our model through its LayerNorms. A part that others make up for shows a small change, so that the changes do not add
up.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.commands import Replacement
from tui_lab.core.inference.example import MOST_LOGITS, Ids
from tui_lab.core.inside.capture import Captured, capture, first_tensor
from tui_lab.core.inside.parts import LayerParts, layers_of
from tui_lab.core.inside.results import Ablation, PartLosses
from tui_lab.core.user_code.external_model import logits_of
from tui_lab.data.dataset import IGNORED

NO_PARTS = (
    "Not available: the model's attention and feed-forward are not known by name, or a layer does not add both to its "
    "input."
)


@torch.no_grad()
def ablate(model: nn.Module, x: Ids, y: Ids, how: Replacement = "zero") -> Ablation | str:
    """Return the losses without each part in turn, or why there are none.

    x, y: [R, T], first the example, then the other rows. The model must be in evaluation mode. Costs a forward pass of
    all rows for each head and two for each layer.
    """
    device = next(model.parameters()).device
    ids = torch.from_numpy(np.ascontiguousarray(x)).to(device)
    targets = torch.from_numpy(np.ascontiguousarray(y)).to(device)
    captured = capture(model, ids)
    if isinstance(captured, str):
        return captured
    if captured.logits.shape[:2] != ids.shape:
        return "Not available: the model computes the logits of the last position only."
    if all(part is None for part in (*captured.attention, *captured.feed_forward)):
        return NO_PARTS
    measure = partial(_losses, model, ids, targets, captured.logits.shape[-1])
    L = len(captured.layers)
    H = max(layer.n_heads for layer in captured.layers)
    base = measure()
    losses = np.full((2, L, H + 2), np.nan, dtype=np.float32)
    for i, layer in enumerate(captured.layers):
        for column, taken_out in _removals(captured, i, layer, how, H):
            with taken_out:
                losses[:, i, column] = measure()
    losses.flags.writeable = False
    names = tuple(layer.name for layer in captured.layers)
    example, others = (
        PartLosses(float(base[i]), losses[i, :, :H], losses[i, :, H], losses[i, :, H + 1]) for i in range(2)
    )
    return Ablation(names, how, example, others, len(x) - 1)


def _removals(captured: Captured, i: int, layer: LayerParts, how: Replacement, H: int) -> Iterator[tuple[int, Any]]:
    """Yield for each part of layer `i` its column, and the context in which it is taken out."""
    heads = captured.heads[i]
    if heads is not None and layer.projection is not None:
        d = heads.shape[-1] // layer.n_heads
        for head in range(layer.n_heads):
            columns = slice(head * d, (head + 1) * d)
            yield head, _without_head(layer.projection, columns, _replacement(heads[..., columns], how))
    for column, part, output in (
        (H, layer.attention, captured.attention[i]),
        (H + 1, layer.feed_forward, captured.feed_forward[i]),
    ):
        if part is not None and output is not None:
            yield column, _without_output(part, _replacement(output, how))


def _replacement(output: Tensor, how: Replacement) -> Tensor:
    """Return what takes the place of a part's output [R, T, d] at every position: [d]."""
    mean = output.flatten(0, 1).float().mean(dim=0).to(output.dtype)
    return torch.zeros_like(mean) if how == "zero" else mean


@contextmanager
def _without_head(projection: nn.Module, columns: slice, value: Tensor) -> Iterator[None]:
    def replace(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        heads = args[0].clone()
        heads[..., columns] = value
        return (heads, *args[1:])

    handle = projection.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _without_output(part: nn.Module, value: Tensor) -> Iterator[None]:
    def replace(module: nn.Module, args: Any, output: Any) -> Any:
        constant = value.expand_as(first_tensor(output))
        return (constant, *output[1:]) if isinstance(output, tuple) else constant

    handle = part.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def _losses(model: Callable[[Tensor], Any], ids: Tensor, targets: Tensor, n_vocab: int) -> tuple[float, float]:
    """Return the mean loss of the first row and that of all others, NaN without targets: ids, targets [R, T]."""
    n_rows = max(1, MOST_LOGITS // (n_vocab * ids.shape[1]))
    sums = []
    for x, y in zip(torch.split(ids, n_rows), torch.split(targets, n_rows), strict=True):
        logits = logits_of(model, x).float()  # type: ignore[arg-type]
        losses = F.cross_entropy(logits.transpose(1, 2), y, ignore_index=IGNORED, reduction="none")  # [r, T]
        sums.append(losses.sum(dim=1))
    sum_of_row = torch.cat(sums).cpu().double()
    n_targets = (targets != IGNORED).sum(dim=1).cpu()
    groups = ((sum_of_row[:1], n_targets[:1]), (sum_of_row[1:], n_targets[1:]))
    example, others = (float(total.sum() / n.sum()) if n.sum() else float("nan") for total, n in groups)
    return example, others


def n_variants(model: nn.Module) -> int:
    """Return how many forward passes an ablation takes at most: one for each head, two for each layer, and one."""
    return 1 + sum(layer.n_heads + 2 for layer in layers_of(model))
