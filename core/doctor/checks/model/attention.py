"""Do attention weights sum to one over the keys, and are scores divided by √d_head? Cost: one forward pass."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.model.heads import heads_mixed
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.attention_record import AttentionCall, AttentionRecord, default_scale
from tui_lab.core.doctor.measures.dependence import record_probe, trained_offset
from tui_lab.core.doctor.program.target import Target

SUM_TOLERANCE = 1e-3
SCALE_TOLERANCE = 0.02
"""Relative difference between the measured factor and an expected one."""
SATURATED = 0.95
"""Mean of the largest weight of each query. Untrained models of transformers and x-transformers: 0.07 to 0.44, with
normalized q and k 0.61, with the bias of T5 in x-transformers 0.81. The same with weights that are 50 times as large:
0.97 to 0.99; 10 times: 0.57 to 0.62."""
MIN_KEYS = 4
"""A query that sees fewer keys may well have one large weight."""
NORMALIZED = 0.01
"""Relative deviation of the norms of q up to which q counts as normalized. Normalized: below 1e-3; others: 0.05 on."""


def check(target: Target) -> Iterator[Finding]:
    with target.evaluating():
        record = record_probe(target)
    if not record.calls:
        if target.d_head is not None:
            raise NotJudged("no softmax over scores was seen")
        raise NotApplicable("the model computes no softmax over products of queries and keys")
    for number, call in enumerate(record.calls):
        finding = _rows(number, call)
        if finding is not None:
            yield finding
            return
    yield from _heads(target, record)
    for number, call in enumerate(record.calls):
        finding = _scale(number, call, target)
        if finding is not None:
            yield finding
            break
    if target.untrained:
        yield from _saturation(record.calls)


def _heads(target: Target, record: AttentionRecord) -> Iterator[Finding]:
    """Judge how heads are split and merged where causality is not, which measures the effect as well."""
    if target.tokens is not None and target.causal and trained_offset(target) is not None:
        return
    mixes = [mix for mix in record.mixes if mix.is_proven and mix.kind in ("heads_split", "heads_merged")]
    if mixes:
        evidence = "one head gets some of the positions, each several times, and another head gets others"
        yield heads_mixed(mixes[0], evidence if mixes[0].kind == "heads_split" else "")


def _name(number: int, call: AttentionCall) -> str:
    return f"attention {number}" + (f" ({call.module})" if call.module else "")


def _rows(number: int, call: AttentionCall) -> Finding | None:
    """Judge the sums over the keys; rows without any key are not judged."""
    if call.softmax is None or not torch.isfinite(call.weights).all():
        return None
    sums = call.weights.float().sum(dim=-1)
    visible = sums.abs() > 1e-6
    if not visible.any() or bool(((sums - 1).abs() < SUM_TOLERANCE)[visible].all()):
        return None
    axis = _softmax_axis(call.softmax)
    if axis:
        return _wrong_axis(number, call, sums, axis)
    zeroed = (call.weights == 0) & (call.softmax > 0)
    # Under autocast, weights are rounded to the precision of the values.
    precision = 1e-3 if call.weights.dtype == call.softmax.dtype else 1e-2
    kept = torch.isclose(call.weights.float(), call.softmax.float(), rtol=precision, atol=1e-6) | zeroed
    if not zeroed.any() or not kept.all() or not _depends_on_position_only(zeroed):
        return None
    return _mask_after_softmax(number, call, sums, zeroed)


def _softmax_axis(weights: Tensor) -> str:
    """Return over which axis other than the keys the weights [..., queries, keys] sum to one, or ""."""
    weights = weights.float()
    if bool(((weights.sum(dim=-1) - 1).abs() < SUM_TOLERANCE).all()):
        return ""
    names = {weights.dim() - 2: "queries"} | {axis: "heads" for axis in range(1, weights.dim() - 2)}
    names[0] = "rows of the batch" if weights.dim() > 2 else "queries"
    for axis, name in sorted(names.items(), reverse=True):
        sums = weights.sum(dim=axis)
        if weights.shape[axis] > 1 and bool(((sums - 1).abs() < SUM_TOLERANCE)[sums > 0].all()):
            return name
    return ""


def _depends_on_position_only(zeroed: Tensor) -> bool:
    """Return whether the same weights are set to zero in every head: of a mask, not of a choice by size."""
    maps = zeroed.flatten(0, -3) if zeroed.dim() > 3 else zeroed
    per_row = zeroed.dim() > 3 and bool((zeroed == zeroed[:, :1]).all())
    return per_row or bool((maps == maps[:1]).all())


def _wrong_axis(number: int, call: AttentionCall, sums: Tensor, axis: str) -> Finding:
    worst = float(sums.flatten()[(sums.flatten() - 1).abs().argmax()])
    return Finding(
        code="attention_rows",
        title=f"The softmax of {_name(number, call)} runs over the {axis}, not over the keys.",
        evidence=f"the weights sum to one over the {axis}; over the keys, the sum of a query is {worst:.3g}",
        why="Attention is a weighted mean only if the weights of each query sum to one; over another axis, a weight "
        "also depends on later positions.",
        fix="Apply softmax(dim=-1) to the scores [B, H, T query, T key].",
        location=call.location,
        explains=("causal_leak", "batch_mixing", "score_scale", "attention_saturated"),
    )


def _mask_after_softmax(number: int, call: AttentionCall, sums: Tensor, zeroed: Tensor) -> Finding:
    assert call.softmax is not None
    lost = float((call.softmax.float() * zeroed).sum() / call.softmax.float().sum())
    future = bool((zeroed.tril().sum() == 0).item()) if call.is_square else False
    what = "later positions" if future else "masked positions"
    return Finding(
        code="mask_after_softmax",
        title=f"The mask of {_name(number, call)} is applied after the softmax, so the weights no longer sum to one.",
        evidence=f"the softmax gives {lost:.0%} of the weight to {what}, which are then set to zero: "
        f"the sums of the queries go from {float(sums.min()):.2g} to {float(sums.max()):.2g}",
        why="The divisor of the softmax still contains the masked scores, so each position learns about "
        f"{what}, and early positions get almost no attention.",
        fix="Mask before the softmax: scores.masked_fill(mask, -inf).softmax(dim=-1).",
        location=call.location,
        explains=("causal_leak", "attention_saturated"),
    )


def _scale(number: int, call: AttentionCall, target: Target) -> Finding | None:
    scale = call.scale
    d = call.d_head
    if scale is None or d is None or d < MIN_KEYS or call.softmax is None:
        return None
    right = default_scale(d)
    if target.d_head is not None:
        return None if _close(scale, right) else _score_scale(number, call, "finding")
    if scale <= right * (1 + SCALE_TOLERANCE):
        # 1 / d is also the scale of μP (Yang et al. 2022).
        return _score_scale(number, call, "hint") if _close(scale, 1 / d) and call.is_own else None
    if _normalized(call):
        return None
    if _close(scale, math.sqrt(d)) or _close(scale, d):
        return _score_scale(number, call, "finding")
    if scale > 1 - SCALE_TOLERANCE and call.is_projected and not _compensated(call):
        is_proven = call.is_own and target.untrained and _close(scale, 1.0)
        return _score_scale(number, call, "finding" if is_proven else "hint")
    return None


def _close(scale: float, expected: float) -> bool:
    return abs(scale / expected - 1) < SCALE_TOLERANCE


def _normalized(call: AttentionCall) -> bool:
    """Return whether the vectors of q have one length: the scale is then a temperature."""
    if call.query is None:
        return False
    norms = call.query.float().norm(dim=-1)
    return float(norms.std() / norms.mean().clamp(min=1e-12)) < NORMALIZED


def _compensated(call: AttentionCall) -> bool:
    """Return whether the weights of q are smaller than those of k by √d_head, as in T5's initialization."""
    if call.query is None or call.key is None or call.d_head is None:
        return True
    ratio = float(call.query.float().std() / call.key.float().std().clamp(min=1e-12))
    return ratio < 1.5 * default_scale(call.d_head)


def _score_scale(number: int, call: AttentionCall, kind: str) -> Finding:
    assert call.scale is not None and call.d_head is not None
    d = call.d_head
    scale = call.scale
    if _close(scale, 1.0):
        title, fix = "are not divided by √d_head", "Divide q kᵀ by √d_head once."
    elif scale > 1:
        title, fix = "are multiplied, not divided, by √d_head", "Divide q kᵀ by √d_head, once: scores / √d_head."
    elif _close(scale, 1 / d):
        title = "are divided by √d_head twice"
        fix = "Divide once: scaled_dot_product_attention already divides by √d_head. With μP, 1 / d_head is right."
    else:
        title, fix = "have a scale other than 1 / √d_head", "Divide q kᵀ by √d_head once."
    why = "Scores that grow with d_head saturate the softmax, so its gradient vanishes (Vaswani et al. 2017)."
    if scale < default_scale(d):
        why = "The scores are so small that attention starts out as a plain mean and learns slowly."
    return Finding(
        code="score_scale",
        title=f"The scores of {_name(number, call)} {title}.",
        evidence=f"the softmax gets c · q kᵀ with c = {scale:.3g}; expected 1 / √{d} = {default_scale(d):.3g}",
        why=why,
        fix=fix,
        kind="finding" if kind == "finding" else "hint",
        location=call.scores_location,
        explains=("attention_saturated",),
    )


def _saturation(calls: list[AttentionCall]) -> Iterator[Finding]:
    for number, call in enumerate(calls):
        if call.softmax is None:
            continue
        weights = call.softmax.float().nan_to_num(0.0)
        wide = (weights > 0).sum(dim=-1) >= MIN_KEYS
        if call.weights.shape[-1] < MIN_KEYS or not wide.any():
            continue
        largest = float(weights.amax(dim=-1)[wide].mean())
        if largest > SATURATED:
            yield Finding(
                code="attention_saturated",
                title=f"Each query of {_name(number, call)} looks at one key only, before any training.",
                evidence=f"the largest weight of a query is {largest:.3f} on average",
                why="The gradient of a saturated softmax is almost zero, so attention hardly learns.",
                fix="Look for scores that are too large: a missing division by √d_head, large initial weights, or "
                "inputs that are not normalized.",
                kind="hint",
                location=call.location,
            )
            return
