"""The training loss of a model, and exact matches of its predictions."""

from torch import Tensor

from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses
from tui_lab.core.user_code.external_model import Model
from tui_lab.data.dataset import IGNORED


def loss_sum(model: Model, x: Tensor, y: Tensor, losses: TargetLosses | None = None) -> Tensor:
    """Return the summed cross-entropy in nats over the targets that are not ignored: x, y int64 [B, T] → [].

    losses: gets the loss of each target.
    """
    return model.loss_sum(x, y, losses)


def exact_matches(logits: Tensor, y: Tensor) -> Tensor:
    """Return for each row whether the likeliest token is right at every target that is not ignored: bool [B].

    With a causal model this equals the exact match of greedy decoding: by induction, a decoder that has been right so
    far has produced the tokens of x.
    """
    return ((logits.argmax(dim=-1) == y) | (y == IGNORED)).all(dim=1)
