"""Norms of the residual stream by layer and position, and of what attention and feed-forward add to it.

The residual stream is what the layers read from and add to (Elhage et al. 2021, "A mathematical framework for
transformer circuits"). In a pre-LN model its norm grows from layer to layer, so that later layers change its direction
less; in a post-LN model as ours the LayerNorm after each sum sets it to about √D again (Xiong et al. 2020, "On layer
normalization in the transformer architecture", lemma 2), so that there the added norms tell what a layer does.
"""

import numpy as np
import torch
from torch import Tensor, nn

from tui_lab.core.inference.example import Floats, Ids
from tui_lab.core.inside.capture import capture
from tui_lab.core.inside.lens import EMBEDDING
from tui_lab.core.inside.results import StreamNorms


@torch.no_grad()
def stream_norms(model: nn.Module, x: Ids) -> StreamNorms | str:
    """Return the norms for one example x [T], or why there are none. The model must be in evaluation mode."""
    device = next(model.parameters()).device
    captured = capture(model, torch.from_numpy(np.ascontiguousarray(x))[None].to(device))
    if isinstance(captured, str):
        return captured
    places = (EMBEDDING, *(layer.name for layer in captured.layers))
    parts = (captured.streams, captured.attention, captured.feed_forward)
    return StreamNorms(places, *(_norms(each, len(x)) for each in parts))


def _norms(tensors: "list[Tensor] | list[Tensor | None]", T: int) -> Floats:
    missing = torch.full((T,), torch.nan)
    norms = [missing if t is None else torch.linalg.vector_norm(t[0].float(), dim=-1).cpu() for t in tensors]
    array: Floats = torch.stack(norms).numpy()
    array.flags.writeable = False
    return array
