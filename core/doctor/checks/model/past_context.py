"""Findings of positions that do not see what came before them, or of a model that ignores its input."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.checks.model.heads import heads_mixed
from tui_lab.core.doctor.checks.model.measured_mode import MeasuredMode, are_close
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.measures.dependence import TOLERANCE, Dependence, counted_predictions, other_tokens
from tui_lab.core.doctor.measures.operations import PRODUCTS
from tui_lab.core.doctor.program.target import Target

MIXING_FUNCTIONS = frozenset((
    "scaled_dot_product_attention", "multi_head_attention_forward", "conv1d", "conv2d", "conv_transpose1d", "unfold",
    "cumsum", "cumsum_", "cumprod", "logcumsumexp", "cummax", "cummin", "roll", "rnn_tanh", "rnn_relu", "lstm", "gru",
    "rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell", "rfft", "fft", "fft_rfft", "fft_fft",
))  # fmt: skip


def past_findings(measured: MeasuredMode) -> Iterator[Finding]:
    """Judge whether positions see what came before."""
    result = measured.result
    T = len(result.own)
    past = result.own.tril(-1) > TOLERANCE * result.largest
    complete = bool((past | ~torch.ones(T, T, dtype=torch.bool).tril(-1)).all())
    if complete or T < 2:
        return
    record = measured.record()
    heads = [mix for mix in record.mixes if mix.kind in ("heads_split", "heads_merged")]
    blind = int((~past).tril(-1).sum())
    if heads:
        yield heads_mixed(
            heads[0],
            f"{blind} of {T * (T - 1) // 2} pairs of positions do not see each other",
            suffix=measured.suffix,
            drawing=measured.result.drawing(),
        )
    elif not past.any():
        yield _no_context(result, mixes=bool(record.calls) or _has_mixing_parts(measured))


def _has_mixing_parts(measured: MeasuredMode) -> bool:
    """Return whether the model has something that usually brings positions together: a bigram model has none."""
    kinds = (nn.RNNBase, nn.RNNCellBase, nn.modules.conv._ConvNd, nn.MultiheadAttention)
    if any(isinstance(module, kinds) for module in measured.target.model.modules()):
        return True
    functions = _MixingFunctions()
    with measured.context(), torch.no_grad(), functions:
        measured.target.logits(measured.target.probe.x)
    return functions.is_called


class _MixingFunctions(TorchFunctionMode):
    """Notices functions that combine several positions, and products of two activations."""

    def __init__(self) -> None:
        super().__init__()
        self.is_called = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        operands = [arg for arg in args if isinstance(arg, Tensor) and not isinstance(arg, nn.Parameter)]
        if name in MIXING_FUNCTIONS or (name in PRODUCTS and len(operands) > 1):
            self.is_called = True
        return func(*args, **(kwargs or {}))


def _no_context(result: Dependence, *, mixes: bool) -> Finding:
    return Finding(
        code="no_context",
        kind="finding" if mixes else "hint",
        title="Each position sees only itself.",
        evidence="exchanging a token changes the logits at its own position only",
        why="Without context, the model can only learn bigram statistics.",
        fix="Check that the attention output is added back, and that the mask does not hide every other position.",
        drawing=result.drawing(),
        explains=("dead_relus",),
    )


def input_ignored() -> Finding:
    """Return the finding of a model whose logits do not depend on its tokens."""
    return Finding(
        code="input_ignored",
        title="The model ignores its input.",
        evidence="changing the tokens doesn't change the logits",
        why="It can only learn how frequent each token is.",
        fix="Follow the embedding to the first layer: is it used, and is it multiplied by zero?",
        explains=("missing_gradient", "no_context", "no_positions"),
    )


def ignores_input(target: Target) -> bool:
    """Return whether other tokens give the same logits."""
    x = target.probe.x
    with torch.no_grad():
        before, after = target.logits(x), target.logits(other_tokens(x, counted_predictions(target)))
    return torch.allclose(before, after, rtol=1e-6, atol=1e-7, equal_nan=True)


def sees_past(target: Target) -> bool:
    """Return whether changing tokens in the first half changes the logits in the second half."""
    x = target.probe.x
    middle = x.shape[1] // 2
    other = torch.cat([other_tokens(x, counted_predictions(target))[:, :middle], x[:, middle:]], dim=1)
    with torch.no_grad():
        before, after = target.logits(x)[:, middle:], target.logits(other)[:, middle:]
    return not are_close(before, after)
