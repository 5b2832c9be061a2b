"""Do attention's rows sum to one, over scores divided by √d? Needs weights that can be seen. Cost: one forward pass."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject

SUM_TOLERANCE = 1e-3
FIT = 0.02
"""How near the measured scale must be to a candidate, relatively."""


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    if subject.attention is None:
        raise Skip("this model does not show its attention weights")
    with subject.evaluating(), torch.no_grad():
        layers = subject.attention(subject.model, probe.x)
    for number, (weights, _) in enumerate(layers):
        off = float((weights.sum(dim=-1) - 1).abs().max())
        if off > SUM_TOLERANCE:
            yield Finding(
                "attention_rows",
                f"The attention weights of layer {number} do not sum to one.",
                f"a row sums to {1 + off:.3g} or {1 - off:.3g}; columns "
                + ("do: the softmax runs over the queries" if _columns(weights) else "do not either"),
                "Each position is a weighted mean of the values it sees only where its weights sum to one.",
                "softmax(dim=-1) over scores [B, H, T query, T key].",
                explains=("causal_leak", "score_scale"),
            )
            return
    if subject.d_head is None or subject.d_head == 1:
        return
    for number, (weights, products) in enumerate(layers):
        scale = _scale(weights, products)
        if scale is not None and abs(scale * math.sqrt(subject.d_head) - 1) > FIT:
            yield Finding(
                "score_scale",
                f"The scores of layer {number} are not divided by √d_head.",
                f"softmax(c · q kᵀ) fits the weights with c = {scale:.3g}; meant is 1 / √{subject.d_head} = "
                f"{1 / math.sqrt(subject.d_head):.3g}",
                "Scores that grow with d_head saturate the softmax, and its gradient vanishes (Vaswani et al. 2017).",
                "Divide q kᵀ by √d_head, once.",
            )
            return


def _columns(weights: Tensor) -> bool:
    return bool(((weights.sum(dim=-2) - 1).abs() < SUM_TOLERANCE).all())


def _scale(weights: Tensor, products: Tensor) -> float | None:
    """The c of softmax(c · products), by least squares on log ratios to a row's first key; None: too flat to tell."""
    seen = weights > 1e-6
    ratios = torch.where(seen, weights, 1.0).double().log()
    ratios = ratios - ratios[..., :1]
    differences = products.double() - products[..., :1].double()
    use = seen & seen[..., :1]
    size = float((differences[use] ** 2).sum())
    if size < 1e-8 * max(1, int(use.sum())):
        return None
    return float((ratios[use] * differences[use]).sum() / size)
