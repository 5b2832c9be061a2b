"""The loss: cross-entropy of logits against targets, the ignored ones left out. Softmax stands nowhere else."""

from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.kernels.chunked_cross_entropy import head_loss_sum
from tui_lab.core.model import Transformer
from tui_lab.core.user_code.external_model import logits_of
from tui_lab.data.dataset import IGNORED


def cross_entropy_sum(logits: Tensor, y: Tensor, ignored: int = IGNORED) -> Tensor:
    """logits [B, T, V], y [B, T]: the sum in nats over the targets that are not `ignored`."""
    return F.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=ignored, reduction="sum")


def loss_sum(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Sum, in nats, of the cross-entropy over the targets of y that are not ignored. x, y: int64 [B, T]."""
    if not isinstance(model, Transformer):
        return cross_entropy_sum(logits_of(model, x), y)
    h, head = model.hidden(x).flatten(0, 1), model.head  # [B·T, D]
    return head_loss_sum(h, head.weight, head.bias, y.flatten(), model.kernels)


def exact_matches(logits: Tensor, y: Tensor) -> Tensor:
    """For each row, whether the likeliest token is right at every target that is not ignored: bool [B].

    With a causal model this equals the exact match of greedy decoding: by induction, a decoder that has been
    right so far sees just the tokens that stand in x.
    """
    return ((logits.argmax(dim=-1) == y) | (y == IGNORED)).all(dim=1)
