"""One forward pass with everything that passes by in it: the residual stream, and what attention and feed-forward add.

Also finds what turns the last layer's output into logits, by running it again on that output and comparing.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.inside.parts import NO_LAYERS, LayerParts, layers_of
from tui_lab.core.kernels.precision import Precision, autocast
from tui_lab.core.model import Transformer
from tui_lab.core.user_code.external_model import logits_of

ReadOut = Callable[[Tensor], Tensor]
TOLERANCES: dict[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "bf16": 5e-2}
"""Difference, as a fraction of the largest value, from which two tensors are not taken to be the same computation."""


@dataclass(frozen=True)
class Captured:
    """streams: [B, T, D] each, the input of the first layer and the output of each. logits: [B, T, V].

    attention, feed_forward: what they return, [B, T, D] for each layer. heads: the outputs of all heads side by side,
    [B, T, H·d] for each layer. None where the model has no such part.
    """

    layers: tuple[LayerParts, ...]
    streams: list[Tensor]
    attention: list[Tensor | None]
    feed_forward: list[Tensor | None]
    heads: list[Tensor | None]
    logits: Tensor
    called_last: tuple[tuple[str, nn.Module], ...]
    """The modules that were called after the last layer, not counting modules inside of them, with their names."""


@dataclass
class _Recorder:
    layers: tuple[LayerParts, ...]
    inputs: dict[int, Tensor] = field(default_factory=dict)
    outputs: dict[int, Tensor] = field(default_factory=dict)
    attention: dict[int, Tensor] = field(default_factory=dict)
    feed_forward: dict[int, Tensor] = field(default_factory=dict)
    heads: dict[int, Tensor] = field(default_factory=dict)
    called_last: list[nn.Module] = field(default_factory=list)
    n_open: int = 0
    is_repeated: bool = False

    def before_layer(self, i: int, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        tensor = next((each for each in (*args, *kwargs.values()) if isinstance(each, Tensor)), None)
        if tensor is not None:
            self.inputs[i] = tensor

    def after_layer(self, i: int, module: nn.Module, args: Any, output: Any) -> None:
        self.is_repeated |= i in self.outputs
        self.outputs[i] = first_tensor(output)

    def keep_output(self, kept: dict[int, Tensor], i: int, module: nn.Module, args: Any, output: Any) -> None:
        kept[i] = first_tensor(output)

    def keep_input(self, i: int, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.heads[i] = args[0]

    def enter(self, module: nn.Module, args: Any) -> None:
        if len(self.outputs) == len(self.layers):
            if not self.n_open:
                self.called_last.append(module)
            self.n_open += 1

    def leave(self, module: nn.Module, args: Any, output: Any) -> None:
        self.n_open = max(0, self.n_open - 1)


def precision_of(model: nn.Module) -> Precision:
    return getattr(model, "precision", "fp32")


def first_tensor(output: Any) -> Tensor:
    """Return what a module returned, or the first element of a tuple."""
    tensor: Tensor = output[0] if isinstance(output, tuple | list) else output
    return tensor


@torch.no_grad()
def capture(model: nn.Module, ids: Tensor) -> Captured | str:
    """Run the model once: ids int64 [B, T]. Returns why it cannot be looked into, as a sentence, if so.

    The model must be in evaluation mode. Nothing of it is changed.
    """
    layers = layers_of(model)
    if not layers:
        return f"Not available: {NO_LAYERS}."
    recorder = _Recorder(layers)
    with _hooks(model, recorder):
        logits = logits_of(model, ids)
    L = range(len(layers))
    if recorder.is_repeated or len(recorder.outputs) < len(layers) or 0 not in recorder.inputs:
        return f"Not available: the layers {layers[0].name} … are not each called once."
    streams = [recorder.inputs[0], *(recorder.outputs[i] for i in L)]
    if any(stream.dim() != 3 or stream.shape[:2] != ids.shape for stream in streams):
        return f"Not available: the layers pass on {list(streams[-1].shape)}, which is not [rows, positions, features]."
    names = {module: name for name, module in model.named_modules()}
    captured = Captured(
        layers,
        streams,
        [recorder.attention.get(i) for i in L],
        [_at_positions(recorder.feed_forward.get(i), ids) for i in L],
        [_split_by_heads(recorder.heads.get(i), ids, layers[i]) for i in L],
        logits,
        tuple((names[module], module) for module in recorder.called_last),
    )
    return captured if isinstance(model, Transformer) else _checked(captured, precision_of(model))


def _at_positions(output: Tensor | None, ids: Tensor) -> Tensor | None:
    """Return an output for all positions in a row, [B·T, D] as in OPT, as [B, T, D]; any other as it is."""
    if output is None or output.dim() != 2 or len(output) != ids.numel():
        return output
    return output.view(*ids.shape, -1)


def _split_by_heads(heads: Tensor | None, ids: Tensor, layer: LayerParts) -> Tensor | None:
    """Return the outputs of the heads if they can be told apart."""
    fits = heads is not None and heads.shape[:2] == ids.shape and heads.shape[-1] % layer.n_heads == 0
    return heads if fits else None


def _checked(captured: Captured, precision: Precision) -> Captured:
    """Leave out what does not fit: output = input + attention + feed-forward must hold in every layer."""
    attention = list(captured.attention)
    feed_forward = list(captured.feed_forward)
    heads = list(captured.heads)
    for i, (before, after) in enumerate(zip(captured.streams, captured.streams[1:], strict=False)):
        parts = [part for part in (attention[i], feed_forward[i]) if part is not None]
        adds_up = len(parts) == 2 and all(part.shape == after.shape for part in parts)
        if not adds_up or not _is_same(before + parts[0] + parts[1], after, precision):
            attention[i] = feed_forward[i] = heads[i] = None
    return Captured(
        captured.layers, captured.streams, attention, feed_forward, heads, captured.logits, captured.called_last
    )


def _is_same(a: Tensor, b: Tensor, precision: Precision) -> bool:
    return bool((a - b).abs().max() <= TOLERANCES[precision] * b.abs().max())


@contextmanager
def _hooks(model: nn.Module, recorder: _Recorder) -> Iterator[None]:
    """Call the recorder while the model runs."""
    with ExitStack() as stack:
        # A hook inside of a layer could change how it computes: our attention then computes its weights.
        inside = {module for each in recorder.layers for module in each.layer.modules()}
        for module in set(model.modules()) - inside:
            stack.enter_context(_removed(module.register_forward_pre_hook(recorder.enter)))
            stack.enter_context(_removed(module.register_forward_hook(recorder.leave)))
        for i, each in enumerate(recorder.layers):
            before = partial(recorder.before_layer, i)
            stack.enter_context(_removed(each.layer.register_forward_pre_hook(before, with_kwargs=True)))
            stack.enter_context(_removed(each.layer.register_forward_hook(partial(recorder.after_layer, i))))
            for part, kept in ((each.attention, recorder.attention), (each.feed_forward, recorder.feed_forward)):
                if part is not None:
                    keep = partial(recorder.keep_output, kept, i)
                    stack.enter_context(_removed(part.register_forward_hook(keep)))
            if each.projection is not None:
                keep_input = partial(recorder.keep_input, i)
                stack.enter_context(_removed(each.projection.register_forward_pre_hook(keep_input)))
        yield


@contextmanager
def _removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def read_out(model: nn.Module, captured: Captured) -> tuple[ReadOut, str] | str:
    """Return the function from a residual stream [N, D] to logits [N, V], and what it applies; or why there is none.

    It is the modules that run after the last layer, such as a final LayerNorm and the head, or these and an embedding
    matrix that is used as the head. It must give the model's own logits for the last layer's output.
    """
    modules = [module for _, module in captured.called_last]
    names = [name.removeprefix("inner.") for name, _ in captured.called_last]
    n_vocab = captured.logits.shape[-1]
    candidates: list[tuple[list[nn.Module], Tensor | None, str]] = [(modules, None, ", ".join(names))]
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and module.num_embeddings == n_vocab:
            tied = f"{name.removeprefix('inner.')}.weight as the head"
            candidates.append((modules, module.weight, ", ".join([*names, tied])))
    n_last = captured.logits.shape[1]  # Some models compute only the logits of the last position.
    for steps, head, text in candidates:
        function = partial(_apply, steps, head, precision_of(model))
        if _gives(function, captured.streams[-1][:, -n_last:], captured.logits, precision_of(model)):
            return function, text
    return (
        "Not available: the logits are not what the modules after the last layer "
        f"({', '.join(names) or 'none'}) compute from its output."
    )


def _apply(modules: list[nn.Module], head: Tensor | None, precision: Precision, stream: Tensor) -> Tensor:
    with autocast(precision, stream.device):
        for module in modules:
            stream = first_tensor(module(stream))
        return (stream if head is None else F.linear(stream, head)).float()


def _gives(function: ReadOut, stream: Tensor, logits: Tensor, precision: Precision) -> bool:
    try:
        result = function(stream)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        return False  # Modules of a user's model that do not follow each other.
    return result.shape == logits.shape and _is_same(result, logits.float(), precision)
