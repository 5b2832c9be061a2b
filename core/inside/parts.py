"""The parts of a model that can be looked into: its layers, and in each its attention, its heads and its feed-forward.

Those of our transformer are known. Those of another model are found by names in common use; `capture` checks that they
are what they are taken for.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from tui_lab.core.model import Transformer
from tui_lab.core.user_code.external_model import WrappedModel

NO_LAYERS = "the model has no list of layers of one kind"
_ATTENTION = ("attn", "attention", "self_att")
_FEED_FORWARD = ("mlp", "ffn", "ffwd", "feed_forward", "feedforward", "linear2", "fc2")
"""The last two: nn.TransformerEncoderLayer and OPT have a feed-forward of two modules, of which this is the second."""
_NOT_A_BRANCH = ("norm", "dropout", "drop", "ln_")
_PROJECTIONS = ("W_O", "o_proj", "c_proj", "out_proj", "proj", "wo", "dense", "out")
_LAST_OF_FEED_FORWARD = ("c_proj", "down_proj", "fc2", "w2", "out", "proj")
"""Of a ModuleDict whose modules the layer calls one by one, as in minGPT: the one that computes what is added."""
_N_HEADS = ("n_heads", "n_head", "num_heads", "num_attention_heads", "nhead")


@dataclass(frozen=True)
class LayerParts:
    """One layer. attention, feed_forward: the modules whose outputs are added to the residual stream.

    projection: the module that gets the outputs of all heads side by side, [B, T, H·d]. None where there is none.
    """

    name: str
    layer: nn.Module
    attention: nn.Module | None
    feed_forward: nn.Module | None
    projection: nn.Module | None
    n_heads: int


def layers_of(model: nn.Module) -> tuple[LayerParts, ...]:
    """Return the layers in their order; none if the model has no list of modules of one type with parameters."""
    if isinstance(model, Transformer):
        return tuple(
            LayerParts(f"layers.{i}", layer, layer.attention, layer.W_2, layer.attention.W_O, layer.attention.n_heads)  # type: ignore[arg-type,union-attr]
            for i, layer in enumerate(model.layers)
        )
    inner = model.inner if isinstance(model, WrappedModel) else model
    return tuple(_parts(inner, name, layer) for name, layer in _largest_list(inner))


def _largest_list(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Return the modules, with their names, of the list that has the most parameters: the outermost one."""
    lists = [
        [(f"{name}.{child_name}".lstrip("."), child) for child_name, child in module.named_children()]
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential) and len({type(child) for child in module}) == 1
    ]
    return max(lists, key=lambda modules: sum(p.numel() for _, m in modules for p in m.parameters()), default=[])


def _parts(model: nn.Module, name: str, layer: nn.Module) -> LayerParts:
    attention = _child(layer, _ATTENTION)
    projection = None
    n_heads = 0
    if attention is not None:
        children = dict(attention.named_children())
        projection = next((children[each] for each in _PROJECTIONS if each in children), None)
        n_heads = _n_heads(attention, model)
    feed_forward = _child(layer, _FEED_FORWARD)
    if isinstance(feed_forward, nn.ModuleDict):
        modules = feed_forward
        feed_forward = next((modules[each] for each in _LAST_OF_FEED_FORWARD if each in modules), None)
    return LayerParts(name, layer, attention, feed_forward, projection if n_heads else None, n_heads)


def _child(layer: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    """Return the child whose name, or that of its class, has one of `names` in it."""
    for name, child in layer.named_children():
        kind = type(child).__name__.lower()
        if any(part in name.lower() or part in kind for part in _NOT_A_BRANCH):
            continue
        if any(part in name.lower() or part in kind for part in names):
            return child
    return None


def _n_heads(attention: nn.Module, model: nn.Module) -> int:
    """Return the number of heads as the attention, its config or the model's config names it; 0 if none does."""
    heads = getattr(attention, "heads", None)
    if isinstance(heads, nn.ModuleList):
        return len(heads)
    return next(_numbers(attention, model), 0)


def _numbers(attention: nn.Module, model: nn.Module) -> Iterator[int]:
    for owner in (attention, getattr(attention, "config", None), getattr(model, "config", None)):
        for name in _N_HEADS:
            value = getattr(owner, name, None)
            if isinstance(value, int) and value > 0:
                yield value
