"""Do attention weights sum to one over the keys, and are scores divided by √d_head? Cost: one forward pass."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.target import Target

SUM_TOLERANCE = 1e-3
SCALE_TOLERANCE = 0.02
"""Relative difference between the measured scale and 1 / √d_head."""


def check(target: Target) -> Iterator[Finding]:
    if target.attention is None:
        raise NotJudged("this model does not expose its attention weights")
    with target.evaluating(), torch.no_grad():
        layers = target.attention(target.model, target.probe.x)
    for number, (weights, _) in enumerate(layers):
        sums = weights.sum(dim=-1).flatten()
        worst = float(sums[(sums - 1).abs().argmax()])
        if abs(worst - 1) > SUM_TOLERANCE:
            yield _rows(number, worst, _columns_sum_to_one(weights))
            return
    if target.d_head is None or target.d_head == 1:
        return
    for number, (weights, products) in enumerate(layers):
        scale = _scale(weights, products)
        if scale is not None and abs(scale * math.sqrt(target.d_head) - 1) > SCALE_TOLERANCE:
            yield _score_scale(number, scale, target.d_head)
            return


def _columns_sum_to_one(weights: Tensor) -> bool:
    return bool(((weights.sum(dim=-2) - 1).abs() < SUM_TOLERANCE).all())


def _scale(weights: Tensor, products: Tensor) -> float | None:
    """Return the c of softmax(c · products) by least squares on log ratios to each row's first key.

    None if the weights are too flat to tell.
    """
    visible = weights > 1e-6
    ratios = torch.where(visible, weights, 1.0).double().log()
    ratios = ratios - ratios[..., :1]
    differences = products.double() - products[..., :1].double()
    use = visible & visible[..., :1]
    size = float((differences[use] ** 2).sum())
    if size < 1e-8 * max(1, int(use.sum())):
        return None
    return float((ratios[use] * differences[use]).sum() / size)


def _rows(layer: int, row_sum: float, columns: bool) -> Finding:
    return Finding(
        code="attention_rows",
        title=f"The attention weights of layer {layer} do not sum to one over the keys.",
        evidence=f"a row sums to {row_sum:.3g}; the columns "
        + ("sum to one: the softmax runs over the queries" if columns else "do not sum to one either"),
        why="Attention is a weighted mean only if the weights of each query sum to one.",
        fix="Apply softmax(dim=-1) to the scores [B, H, T query, T key].",
        explains=("causal_leak", "score_scale"),
    )


def _score_scale(layer: int, scale: float, d_head: int) -> Finding:
    return Finding(
        code="score_scale",
        title=f"The attention scores of layer {layer} are not divided by √d_head.",
        evidence=f"the weights fit softmax(c · q kᵀ) with c = {scale:.3g}; expected 1 / √{d_head} = "
        f"{1 / math.sqrt(d_head):.3g}",
        why="Scores that grow with d_head saturate the softmax, so its gradient vanishes (Vaswani et al. 2017).",
        fix="Divide q kᵀ by √d_head once.",
    )
