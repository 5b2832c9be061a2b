"""Mistakes of the model. What fits any module works on any; what needs our attention works on ours."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.model import Attention, Named, Transformer, attention_weights, causal_mask

LARGE = 50.0
NEVER = -1e4


class Unfused(Attention):
    """Its weights are always computed, never by torch's kernel, so that a mistake in them acts."""

    fused = False


class Unmasked(Unfused):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return (q @ k.transpose(2, 3) / math.sqrt(self.d_head)).softmax(dim=-1)


class LateMask(Unfused):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
        late = mask | mask.roll(-1, dims=0)
        late[-1] = True
        return (q @ k.transpose(2, 3) / math.sqrt(self.d_head)).masked_fill(~late, -math.inf).softmax(dim=-1)


class OverQueries(Unfused):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
        return (q @ k.transpose(2, 3) / math.sqrt(self.d_head)).masked_fill(~mask, -math.inf).softmax(dim=-2)


class Unscaled(Unfused):
    def weights(self, q: Tensor, k: Tensor) -> Tensor:
        return attention_weights(q * math.sqrt(self.d_head), k)


class Blind(Attention):
    def attend(self, q: Tensor, k: Tensor, v: Tensor, cached: bool, named: Named | None, name: str) -> Tensor:
        return 0.0 * super().attend(q, k, v, cached, named, name)


class WithoutPositions(Transformer):
    def embed(self, ids: Tensor, positions: Tensor) -> Tensor:
        e: Tensor = self.W_E(ids)
        return e


ATTENTIONS: dict[str, type[Attention]] = {
    "no_mask": Unmasked, "late_mask": LateMask, "softmax_over_queries": OverQueries, "unscaled_scores": Unscaled,
    "no_context": Blind,
}  # fmt: skip


def _attention(kind: type[Attention]) -> Callable[[nn.Module], None]:
    def swap(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, Attention):
                module.__class__ = kind

    return swap


def no_positions(model: nn.Module) -> None:
    model.__class__ = WithoutPositions


def tied_head(model: nn.Module) -> None:
    assert isinstance(model, Transformer)
    model.head.weight = model.W_E.weight


def dead_relus(model: nn.Module) -> None:
    """The bias of the first linear map of every feed-forward: ours is W_1, torch's own layer's linear1."""
    for name, module in model.named_modules():
        if name.endswith((".W_1", ".linear1")) and isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, NEVER)


def token_embedding(model: nn.Module) -> nn.Embedding:
    """The first embedding of the model."""
    return next(module for module in model.modules() if isinstance(module, nn.Embedding))


def blocks(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """The list that holds the layers, with its owner and its name there."""
    for owner in model.modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) and any(True for _ in child.parameters()):
                return owner, name, child
    raise ValueError(f"{type(model).__name__} has no list of layers")


def last_block(model: nn.Module) -> nn.Module:
    """The last layer; of a list of parts that is never called itself, the largest."""
    block: nn.Module = blocks(model)[2][-1]
    while isinstance(block, nn.ModuleList):
        block = max(block, key=lambda part: sum(p.numel() for p in part.parameters()))
    return block


def changing(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """A module's output with `change` made to its floating tensors."""
    if isinstance(output, Tensor):
        return change(output) if output.is_floating_point() else output
    if isinstance(output, tuple):
        return (changing(output[0], change), *output[1:])
    return output


def _hook(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Any], Any]:
    return lambda module, inputs, output: changing(output, change)


def batch_mixing(model: nn.Module) -> None:
    token_embedding(model).register_forward_hook(_hook(lambda e: e - 0.5 * e.mean(dim=0, keepdim=True)))


def input_ignored(model: nn.Module) -> None:
    token_embedding(model).register_forward_hook(_hook(lambda e: 0.0 * e))


def peeking(model: nn.Module) -> None:
    """For designs whose mask is out of reach: each position is given the next one's embedding."""
    token_embedding(model).register_forward_hook(_hook(lambda e: e + e.roll(-1, dims=1)))


def frozen_layer(model: nn.Module) -> None:
    last_block(model).requires_grad_(False)


def unregistered_layer(model: nn.Module) -> None:
    owner, name, layers = blocks(model)
    del owner._modules[name]
    object.__setattr__(owner, name, list(layers))


def detached_layer(model: nn.Module) -> None:
    last_block(model).register_forward_hook(_hook(Tensor.detach))


def not_finite(model: nn.Module) -> None:
    last_block(model).register_forward_hook(_hook(lambda h: h / 0.0))


def unseeded_noise(model: nn.Module) -> None:
    generator = torch.Generator()
    generator.seed()

    def noise(e: Tensor) -> Tensor:
        return e + 0.1 * e.detach().std() * torch.randn(e.shape, generator=generator).to(e.device)

    token_embedding(model).register_forward_hook(_hook(noise))


@torch.no_grad()
def large_init(model: nn.Module) -> None:
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            parameter.mul_(LARGE)


def dropout_in_eval(model: nn.Module) -> None:
    """`eval()` has no effect, as with F.dropout that is not told of the mode."""
    kind = type(model)

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        return kind.train(self, True)

    model.__class__ = type(kind.__name__, (kind,), {"train": train})


MODEL_FAULTS: dict[str, Callable[[nn.Module], None]] = {
    **{name: _attention(kind) for name, kind in ATTENTIONS.items()},
    "no_positions": no_positions,
    "batch_mixing": batch_mixing,
    "input_ignored": input_ignored,
    "frozen_layer": frozen_layer,
    "unregistered_layer": unregistered_layer,
    "detached_layer": detached_layer,
    "tied_head": tied_head,
    "large_init": large_init,
    "dead_relus": dead_relus,
    "not_finite": not_finite,
    "unseeded_noise": unseeded_noise,
    "dropout_in_eval": dropout_in_eval,
}
