"""Does each position see itself and earlier positions of its own row, and nothing else? If not, why?

One token at a time is exchanged, in evaluation mode, and in training mode where that computes something else. The cause
is then looked for in the record of a forward pass: attention weights above the diagonal, reshapes that mix positions,
norms and means over the wrong axis. Cost: a forward pass for each position, at most 16, and as many in training mode.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.checks.model.batch_mixing import batch_mixing, rows_mixed
from tui_lab.core.doctor.checks.model.heads import heads_mixed
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.lines import class_line
from tui_lab.core.doctor.measures.attention_record import AttentionCall, AttentionRecord, Mix
from tui_lab.core.doctor.measures.attention_recorder import record_attention
from tui_lab.core.doctor.measures.dependence import (
    TOLERANCE,
    Dependence,
    counted_predictions,
    dependence,
    other_tokens,
    trained_offset,
    warmed_up,
)
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.measures.operations import PRODUCTS
from tui_lab.core.doctor.program.target import Target

MIXING_FUNCTIONS = frozenset((
    "scaled_dot_product_attention", "multi_head_attention_forward", "conv1d", "conv2d", "conv_transpose1d", "unfold",
    "cumsum", "cumsum_", "cumprod", "logcumsumexp", "cummax", "cummin", "roll", "rnn_tanh", "rnn_relu", "lstm", "gru",
    "rnn_tanh_cell", "rnn_relu_cell", "lstm_cell", "gru_cell", "rfft", "fft", "fft_rfft", "fft_fft",
))  # fmt: skip
SAME_MODE = 1e-4
"""Relative difference of the logits up to which training mode computes the same as evaluation mode."""


@dataclass(frozen=True, eq=False)
class _Measured:
    """What was measured in one mode. only_here: whether the other mode shows none of it; mode: its name."""

    target: Target
    mode: str
    result: Dependence
    context: Callable[[], AbstractContextManager[None]]
    only_here: bool = False

    @property
    def suffix(self) -> str:
        return f" in {self.mode} mode only" if self.only_here else ""

    def record(self) -> AttentionRecord:
        x = self.target.probe.x
        with self.context():
            return record_attention(self.target.model, lambda: self.target.logits(x), x)


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    if x.shape[1] < 2:
        raise NotApplicable("rows have only one token")
    with target.evaluating():
        inert = _ignores_input(target) or not _sees_past(target)
    if inert:
        # Weights may start at zero on purpose; after some updates they show what they see.
        target = warmed_up(target)
    with target.evaluating():
        if _ignores_input(target):
            yield _input_ignored()
            return
    modes = _measured(target)
    mixing = [measured for measured in modes if measured.result.mixes_rows]
    if mixing:
        yield _rows_mix(mixing[0])
        if not any(measured.result.future.any() for measured in modes):
            return
    if not target.causal:
        return
    leaking = [measured for measured in modes if bool(measured.result.future.any())]
    if leaking:
        yield from _leak(leaking[0], mixing)
        return
    yield from _past(modes[0])


def _measured(target: Target) -> list[_Measured]:
    """Measure in evaluation mode, and in training mode if it computes something else with dropout off."""
    with target.evaluating(), torch.no_grad():
        evaluated = target.logits(target.probe.x)
        result = dependence(target)
    modes = [_Measured(target, "evaluation", result, target.evaluating)]
    trial = target.fresh()
    trial.model.train()
    with torch.no_grad(), without_dropout():
        try:
            first, second = (trial.logits(trial.probe.x) for _ in range(2))
        except Exception:  # A batch norm fails for a single row; the checks of the loss report other reasons.
            return modes
        differs = not _close(evaluated, first)
        if not differs or not _close(first, second):  # Such as a spectral norm, which changes with each pass.
            return modes
        modes.append(_Measured(trial, "training", dependence(trial), _training))
    return [_with_difference(modes[0], modes[1]), _with_difference(modes[1], modes[0])]


def _training() -> AbstractContextManager[None]:
    return without_dropout()


def _with_difference(measured: _Measured, other: _Measured) -> _Measured:
    future = bool(measured.result.future.any()) and not bool(other.result.future.any())
    rows = measured.result.mixes_rows and not other.result.mixes_rows
    return _Measured(measured.target, measured.mode, measured.result, measured.context, future or rows)


def _close(a: Tensor, b: Tensor) -> bool:
    size = a.float().abs().nan_to_num(0.0).max().clamp(min=1e-3)
    return bool((a.float() - b.float()).nan_to_num(0.0).abs().max() <= SAME_MODE * size)


# Leaks along the row


def _leak(measured: _Measured, mixing: list[_Measured]) -> Iterator[Finding]:
    """Yield the finding of a leak, unless another one explains it or the model may be bidirectional on purpose."""
    record = measured.record()
    result = measured.result
    mixes = [mix for mix in record.mixes if not mix.over_rows or mix.kind == "norm"]
    if mixing and not mixes and not _open_attentions(measured, record):
        return  # The mixture of rows explains it.
    if trained_offset(measured.target) is None:
        raise NotJudged(
            "positions see later ones, and the targets are not the next tokens, as in BERT or a classifier; for a "
            "Case, causal=False states that this is meant"
        )
    heads = [mix for mix in mixes if mix.kind in ("heads_split", "heads_merged")]
    norms = [mix for mix in mixes if mix.kind == "norm"]
    if calls := _open_attentions(measured, record):
        yield _open_mask(measured, calls, len(_self_attentions(measured, record)))
    elif heads:
        yield _heads_mixed(heads[0], _evidence(result), measured)
    elif norms:
        yield _norm_axis(norms[0], _evidence(result), measured)
    elif mixes:
        yield _mean_over_row(mixes[0], measured)
    else:
        yield _unexplained(measured)


def _evidence(result: Dependence) -> str:
    """Say how far, how large and where."""
    future = result.own * result.future
    t, s = divmod(int(future.argmax()), future.shape[1])
    share = float(future.max()) / result.largest
    pairs = result.future.nonzero()
    reach = int((pairs[:, 1] - pairs[:, 0]).max())
    exact = "exactly one position ahead" if reach == 1 else f"up to t + {reach}"
    return (
        f"the logits at t depend on tokens {exact}; the largest effect, of token {s} on position {t}, is "
        f"{share:.2g} of that of any token"
    )


def _self_attentions(measured: _Measured, record: AttentionRecord) -> list[tuple[int, AttentionCall]]:
    """Return the attentions over positions that leak: their keys change with the tokens that are seen too early."""
    x = measured.target.probe.x
    leaks = measured.result.future.any(dim=0).to(x.device)
    other = torch.where(leaks, other_tokens(x, counted_predictions(measured.target)), x)
    with measured.context():
        second = record_attention(measured.target.model, lambda: measured.target.logits(other), other)
    pairs = zip(record.calls, second.calls, strict=False)
    return [
        (number, call)
        for number, (call, after) in enumerate(pairs)
        if call.is_square and (call.key is None or after.key is None or not torch.equal(call.key, after.key))
    ]


def _open_attentions(measured: _Measured, record: AttentionRecord) -> list[tuple[int, AttentionCall]]:
    """Return the attentions over x in which counted positions look at later ones."""
    counted = measured.result.counted.to(measured.target.device)

    def looks_ahead(weights: Tensor) -> bool:
        ahead = weights.float().nan_to_num(0.0).triu(1)
        if ahead.shape[-1] == len(counted):
            ahead = ahead * counted[:, None]
        return float(ahead.abs().max()) > TOLERANCE

    calls = _self_attentions(measured, record)
    return [(number, call) for number, call in calls if looks_ahead(call.weights)]


def _open_mask(measured: _Measured, calls: list[tuple[int, AttentionCall]], n_calls: int) -> Finding:
    number, call = calls[0]
    weights = call.weights.float().nan_to_num(0.0)
    where = f"attention {number}" + (f" ({call.module})" if call.module else "")
    looking = f"{len(calls)} of {n_calls} self-attention layers look{'s' if len(calls) == 1 else ''} ahead"
    share = float(weights.triu(1).sum() / weights.sum().clamp(min=1e-12))
    if not weights.tril(-1).any():
        title = f"The causal mask is upside down: each position sees itself and later positions{measured.suffix}."
        fix = "Invert the mask. In scaled_dot_product_attention, True means that the key may be seen; in "
        fix += "nn.MultiheadAttention and nn.Transformer, True means that it is masked."
    elif not weights.triu(2).any():
        title = f"The causal mask is off by one: each position sees the next token{measured.suffix}."
        fix = "Mask above the diagonal, not from the second one on: torch.triu(ones, diagonal=1), or "
        fix += "torch.tril(ones) for the keys that may be seen."
    else:
        title = f"Attention has no causal mask: each position sees later positions{measured.suffix}."
        fix = "Set the scores above the diagonal to -inf before the softmax, or pass is_causal=True or the mask "
        fix += f"(tgt_mask for a decoder). If the model is meant to see both sides, as BERT is, {_allow(measured)}."
    return _causal_leak(
        measured,
        title,
        f"{where} gives {share:.0%} of its weight to later positions; {looking}; {_evidence(measured.result)}",
        fix,
        call.location,
    )


def _allow(measured: _Measured) -> str:
    """Return how the user states that positions may see later ones."""
    if measured.target.record is None or measured.target.record.is_rehearsal:
        return "set causal=False in its Case"
    return "do not train it to predict the next token, which it sees"


def _mean_over_row(mix: Mix, measured: _Measured) -> Finding:
    return _causal_leak(
        measured,
        f"A {mix.operation.split(' ')[0]} over the positions lets each position see later ones{measured.suffix}.",
        f"{mix.operation} in {mix.module or 'the model'} combines different positions; {_evidence(measured.result)}",
        "Reduce over the features (dim=-1), or over earlier positions only, as cumsum does.",
        mix.location,
    )


def _unexplained(measured: _Measured) -> Finding:
    pairs = measured.result.future.nonzero()
    by_one = bool((pairs[:, 1] - pairs[:, 0] == 1).all())
    return _causal_leak(
        measured,
        f"Each position sees {'the next token' if by_one else 'later positions'}{measured.suffix}.",
        f"{_evidence(measured.result)}; no attention looks ahead",
        "Look for a roll or shift in the wrong direction, a convolution that is padded on both sides, a bidirectional "
        "recurrent layer, and for views that split or merge heads. "
        f"If the model is meant to see both sides, {_allow(measured)}.",
        "",
    )


def _causal_leak(measured: _Measured, title: str, evidence: str, fix: str, location: str) -> Finding:
    why = "The model reads the answer from its input: the loss falls to zero, and generated text is meaningless."
    if measured.only_here and measured.mode == "evaluation":
        why = "The validation loss is computed in this mode, so it does not show how well the model predicts; "
        why += "whole rows must be masked in evaluation, too."
    return Finding(
        code="causal_leak",
        title=title,
        evidence=evidence,
        why=why,
        fix=fix,
        location=location,
        drawing=measured.result.drawing(),
    )


def _heads_mixed(mix: Mix, evidence: str, measured: _Measured) -> Finding:
    return heads_mixed(mix, evidence, suffix=measured.suffix, drawing=measured.result.drawing())


def _norm_axis(mix: Mix, evidence: str, measured: _Measured) -> Finding:
    over = "rows of the batch" if mix.over_rows else "positions"
    return Finding(
        code="norm_axis",
        title=f"A norm runs over the {over}, not only over the features{measured.suffix}.",
        evidence=f"{mix.operation} in {mix.module or 'the model'}; {evidence}",
        why="Each position learns about "
        + (
            "the other rows of its batch, which differ in validation and generation."
            if mix.over_rows
            else "later ones."
        ),
        fix="Normalize each position by itself: nn.LayerNorm(d_model) over the last axis.",
        location=mix.location,
        drawing=measured.result.drawing(),
        explains=("causal_leak", "batch_mixing", "no_positions"),
    )


# Other rows of the batch


def _rows_mix(measured: _Measured) -> Finding:
    recurrent = _rows_as_time(measured.target)
    if recurrent is None and _takes_positions_first(measured.target):
        return _positions_first()
    record = measured.record()
    mixes = sorted((mix for mix in record.mixes if mix.over_rows), key=lambda mix: mix.kind == "reduction")
    result = measured.result
    assert result.others is not None
    evidence = (
        "a token of one row changes the logits of other rows, by up to "
        f"{float(result.others.max()) / result.largest:.0%} of its largest effect in its own row"
    )
    if recurrent is not None:
        return batch_mixing(*_takes_time_first(recurrent, evidence), class_line(measured.target.model, recurrent))
    if mixes and mixes[0].kind == "norm":
        return _norm_axis(mixes[0], evidence, measured)
    return rows_mixed(mixes[0] if mixes else None, evidence, suffix=measured.suffix)


def _rows_as_time(target: Target) -> str | None:
    """Return the name of a recurrent layer that gets [B, T, C] but expects [T, B, C], or None."""
    rows, length = target.probe.x.shape
    if rows == length:
        return None
    names: list[str] = []

    def hook(name: str) -> Callable[[nn.Module, Any], None]:
        def look(module: nn.Module, args: Any) -> None:
            if args and isinstance(args[0], Tensor) and args[0].dim() == 3 and args[0].shape[:2] == (rows, length):
                names.append(name)

        return look

    handles = [
        module.register_forward_pre_hook(hook(name))
        for name, module in target.model.named_modules()
        if isinstance(module, nn.RNNBase) and not module.batch_first
    ]
    try:
        with target.evaluating(), torch.no_grad():
            target.output(target.probe.batch)
    finally:
        for handle in handles:
            handle.remove()
    return names[0] if names else None


def _takes_time_first(name: str, evidence: str) -> tuple[str, str, str]:
    """Return the title, evidence and fix of a recurrent layer that takes rows for positions."""
    return (
        "A recurrent layer runs over the rows of the batch, not over the positions: batch_first=True is missing.",
        f"{name or 'the model'} has batch_first=False, so it expects [T, B, C], and gets [B, T, C]; {evidence}",
        f"Create {name or 'it'} with batch_first=True, or give it [T, B, C].",
    )


def _takes_positions_first(target: Target) -> bool:
    """Whether rows are independent once the ids are given as [T, B]."""
    x = target.probe.x
    if x.shape[0] == x.shape[1]:
        return False
    other = other_tokens(x, counted_predictions(target))
    other[0] = x[0]
    try:
        with target.evaluating(), torch.no_grad():
            before, after = (target.logits(ids.t().contiguous()) for ids in (x, other))
    except Exception:  # The model accepts no such shape.
        return False
    if before.dim() != 3 or before.shape[:2] != x.t().shape:
        return False
    changed = (before - after).abs().amax(dim=(0, 2))
    return float(changed[0]) <= TOLERANCE * float(changed.max())


def _positions_first() -> Finding:
    return batch_mixing(
        "The model takes [T, B], positions first, and gets rows first.",
        "with transposed ids, no row depends on another one; as given, each does",
        "Give it x.t(), or create its layers with batch_first=True.",
    )


# Too little context, or none


def _past(measured: _Measured) -> Iterator[Finding]:
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
        yield _heads_mixed(
            heads[0], f"{blind} of {T * (T - 1) // 2} pairs of positions do not see each other", measured
        )
    elif not past.any():
        yield _no_context(result, mixes=bool(record.calls) or _has_mixing_parts(measured))


def _has_mixing_parts(measured: _Measured) -> bool:
    """Whether the model has something that usually brings positions together: a bigram model has none."""
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


# Models that ignore their input


def _input_ignored() -> Finding:
    return Finding(
        code="input_ignored",
        title="The model ignores its input.",
        evidence="changing the tokens doesn't change the logits",
        why="It can only learn how frequent each token is.",
        fix="Follow the embedding to the first layer: is it used, and is it multiplied by zero?",
        explains=("missing_gradient", "no_context", "no_positions"),
    )


def _ignores_input(target: Target) -> bool:
    x = target.probe.x
    with torch.no_grad():
        before, after = target.logits(x), target.logits(other_tokens(x, counted_predictions(target)))
    return torch.allclose(before, after, rtol=1e-6, atol=1e-7, equal_nan=True)


def _sees_past(target: Target) -> bool:
    """Return whether changing tokens in the first half changes the logits in the second half."""
    x = target.probe.x
    middle = x.shape[1] // 2
    other = torch.cat([other_tokens(x, counted_predictions(target))[:, :middle], x[:, middle:]], dim=1)
    with torch.no_grad():
        before, after = target.logits(x)[:, middle:], target.logits(other)[:, middle:]
    return not _close(before, after)
