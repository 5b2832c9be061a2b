"""Findings of positions that see later ones, by their cause: masks, heads, norms and means over the positions."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.model.heads import heads_mixed
from tui_lab.core.doctor.checks.model.measured_mode import MeasuredMode
from tui_lab.core.doctor.checks.model.norm_axis import norm_axis
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.measures.attention_record import AttentionCall, AttentionRecord, Mix
from tui_lab.core.doctor.measures.attention_recorder import record_attention
from tui_lab.core.doctor.measures.dependence import (
    TOLERANCE,
    Dependence,
    counted_predictions,
    other_tokens,
    trained_offset,
)


def leak_findings(measured: MeasuredMode, mixing: list[MeasuredMode]) -> Iterator[Finding]:
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
        yield heads_mixed(heads[0], _evidence(result), suffix=measured.suffix, drawing=measured.result.drawing())
    elif norms:
        yield norm_axis(norms[0], _evidence(result), measured)
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


def _self_attentions(measured: MeasuredMode, record: AttentionRecord) -> list[tuple[int, AttentionCall]]:
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


def _open_attentions(measured: MeasuredMode, record: AttentionRecord) -> list[tuple[int, AttentionCall]]:
    """Return the attentions over x in which counted positions look at later ones."""
    counted = measured.result.counted.to(measured.target.device)

    def looks_ahead(weights: Tensor) -> bool:
        ahead = weights.float().nan_to_num(0.0).triu(1)
        if ahead.shape[-1] == len(counted):
            ahead = ahead * counted[:, None]
        return float(ahead.abs().max()) > TOLERANCE

    calls = _self_attentions(measured, record)
    return [(number, call) for number, call in calls if looks_ahead(call.weights)]


def _open_mask(measured: MeasuredMode, calls: list[tuple[int, AttentionCall]], n_calls: int) -> Finding:
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


def _allow(measured: MeasuredMode) -> str:
    """Return how the user states that positions may see later ones."""
    if measured.target.record is None or measured.target.record.is_rehearsal:
        return "set causal=False in its Case"
    return "do not train it to predict the next token, which it sees"


def _mean_over_row(mix: Mix, measured: MeasuredMode) -> Finding:
    return _causal_leak(
        measured,
        f"A {mix.operation.split(' ')[0]} over the positions lets each position see later ones{measured.suffix}.",
        f"{mix.operation} in {mix.module or 'the model'} combines different positions; {_evidence(measured.result)}",
        "Reduce over the features (dim=-1), or over earlier positions only, as cumsum does.",
        mix.location,
    )


def _unexplained(measured: MeasuredMode) -> Finding:
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


def _causal_leak(measured: MeasuredMode, title: str, evidence: str, fix: str, location: str) -> Finding:
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
