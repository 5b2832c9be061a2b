"""Faults of the model: functions that change it in place. Those that need `Attention` work on `Transformer` only."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.model import Attention, AttentionWeights, Transformer, causal_mask

LARGE = 50.0
"""Factor of the initial weights."""
DEAD_BIAS = -1e4
"""So low that a ReLU never fires."""


class Unmasked(AttentionWeights):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return _scores(q, k).softmax(dim=-1)


class LateMask(AttentionWeights):
    """A mask with which each query sees one position too far."""

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
        late_mask = mask | mask.roll(-1, dims=0)
        late_mask[-1] = True
        return _scores(q, k).masked_fill(~late_mask, -math.inf).softmax(dim=-1)


class SoftmaxOverQueries(AttentionWeights):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        mask = causal_mask(q.shape[2], k.shape[2], q.device)
        return _scores(q, k).masked_fill(~mask, -math.inf).softmax(dim=-2)


class Unscaled(AttentionWeights):
    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return super().forward(q * math.sqrt(q.shape[3]), k)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    return q @ k.transpose(2, 3) / math.sqrt(q.shape[3])


WEIGHTS: dict[str, type[AttentionWeights]] = {
    "no_mask": Unmasked,
    "late_mask": LateMask,
    "softmax_over_queries": SoftmaxOverQueries,
    "unscaled_scores": Unscaled,
}


def _replace_weights(kind: type[AttentionWeights]) -> Callable[[nn.Module], None]:
    def replace(model: nn.Module) -> None:
        for module in model.modules():
            if isinstance(module, Attention):
                module.weights = kind()

    return replace


def no_context(model: nn.Module) -> None:
    """Multiply the output of attention by zero in every layer."""
    for module in model.modules():
        if isinstance(module, Attention):
            module.W_O.register_forward_hook(_hook(lambda attended: 0.0 * attended))


def no_positions(model: nn.Module) -> None:
    """Add nothing to the tokens in place of the positions."""
    assert isinstance(model, Transformer)
    model.W_P.register_forward_hook(_hook(torch.zeros_like))


def tied_head(model: nn.Module) -> None:
    """Let the head share the weights of the token embedding."""
    assert isinstance(model, Transformer)
    model.head.weight = model.W_E.weight


def dead_relus(model: nn.Module) -> None:
    """Lower the biases of every feed-forward layer's first linear map: W_1 in Transformer, linear1 in torch."""
    for name, module in model.named_modules():
        if name.endswith((".W_1", ".linear1")) and isinstance(module, nn.Linear):
            nn.init.constant_(module.bias, DEAD_BIAS)


def token_embedding(model: nn.Module) -> nn.Embedding:
    """Return the first embedding of the model."""
    return next(module for module in model.modules() if isinstance(module, nn.Embedding))


def layer_list(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """Return the list of layers, with the module that owns it and its name there."""
    for owner in model.modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) and any(True for _ in child.parameters()):
                return owner, name, child
    raise ValueError(f"{type(model).__name__} has no list of layers")


def last_layer(model: nn.Module) -> nn.Module:
    """Return the last layer; if it is a list of parts, which is never called itself, its largest part."""
    layer: nn.Module = layer_list(model)[2][-1]
    while isinstance(layer, nn.ModuleList):
        layer = max(layer, key=lambda part: sum(p.numel() for p in part.parameters()))
    return layer


def _changed(output: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """Apply `change` to a module's output, or to the first element of a tuple, if it is a floating-point tensor."""
    if isinstance(output, Tensor):
        return change(output) if output.is_floating_point() else output
    if isinstance(output, tuple):
        return (_changed(output[0], change), *output[1:])
    return output


def _hook(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Any], Any]:
    return lambda module, inputs, output: _changed(output, change)


def batch_mixing(model: nn.Module) -> None:
    """Let each row see the mean of all rows: half of it is taken off the token embeddings."""
    token_embedding(model).register_forward_hook(_hook(lambda e: e - 0.5 * e.mean(dim=0, keepdim=True)))


def input_ignored(model: nn.Module) -> None:
    """Multiply the token embeddings by zero."""
    token_embedding(model).register_forward_hook(_hook(lambda e: 0.0 * e))


def add_next_embedding(model: nn.Module) -> None:
    """Let each position see the next token, in models whose mask cannot be changed from outside."""
    token_embedding(model).register_forward_hook(_hook(lambda e: e + e.roll(-1, dims=1)))


def frozen_layer(model: nn.Module) -> None:
    """Train all layers but the last."""
    last_layer(model).requires_grad_(False)


def unregistered_layer(model: nn.Module) -> None:
    """Keep the layers in a plain list, so that the model does not know their parameters."""
    owner, name, layers = layer_list(model)
    del owner._modules[name]
    object.__setattr__(owner, name, list(layers))


def detached_layer(model: nn.Module) -> None:
    """Cut the graph after the last layer."""
    last_layer(model).register_forward_hook(_hook(Tensor.detach))


def not_finite(model: nn.Module) -> None:
    """Divide the output of the last layer by zero."""
    last_layer(model).register_forward_hook(_hook(lambda h: h / 0.0))


def unseeded_noise(model: nn.Module) -> None:
    """Add noise to the token embeddings that no seed of the run repeats."""
    generator = torch.Generator()
    generator.seed()

    def noise(e: Tensor) -> Tensor:
        return e + 0.1 * e.detach().std() * torch.randn(e.shape, generator=generator).to(e.device)

    token_embedding(model).register_forward_hook(_hook(noise))


@torch.no_grad()
def large_init(model: nn.Module) -> None:
    """Multiply all weights by LARGE."""
    for parameter in model.parameters():
        if parameter.dim() >= 2:
            parameter.mul_(LARGE)


def dropout_in_eval(model: nn.Module) -> None:
    """Make `eval()` have no effect, as with F.dropout without its `training` argument."""
    kind = type(model)

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        return kind.train(self, True)

    model.__class__ = type(kind.__name__, (kind,), {"train": train})


MODEL_FAULTS: dict[str, Callable[[nn.Module], None]] = {
    **{name: _replace_weights(kind) for name, kind in WEIGHTS.items()},
    "no_context": no_context,
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
