"""What a loss computes from its logits, read from its gradient with respect to them.

With p = softmax(z) and e one-hot at the target, the gradient of −ln p[y] is p − e (Goodfellow et al. 2016, section
6.2.2): its only negative entry is the target's, and its size is the weight that the position has in the loss. Common
mistakes have other gradients, or the same one with weights that no loss would choose. A loss that lowers a target has
a negative weight there: its only positive entry is the target's.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Form = Literal[
    "cross_entropy", "smoothed_cross_entropy", "signed_cross_entropy", "log_likelihood", "double_softmax",
    "probability", "missing_log_softmax", "other",
]  # fmt: skip
"""signed_cross_entropy: a cross-entropy that raises some targets and lowers others, as DPO (Rafailov et al. 2023) and
policy gradients do. log_likelihood: of outputs that are log-probabilities or probabilities. probability: −p[y], without
a logarithm. missing_log_softmax: −z[y]. smoothed_cross_entropy: with label smoothing, or a penalty on the size of the
logits."""

MAX_ERROR = 0.02
"""Relative error up to which a gradient has a form. In float32 the right one has below 1e-5, in bfloat16 0.005."""
MAX_MISTAKE_ERROR = 2e-3
"""As MAX_ERROR for the forms that are mistakes: other losses resemble them at small logits. bfloat16: 3e-4."""
MISTAKES: frozenset[Form] = frozenset({"double_softmax", "probability", "missing_log_softmax"})
ROUNDING = 1e-6
"""Errors of this size are those of float32."""
EVEN = 0.02
"""Relative spread of weights up to which they are equal."""
SAMPLE_ELEMENTS = 2**21
SAMPLE_POSITIONS = 256
LOWEST_PROBABILITY = 1e-30


@dataclass(frozen=True)
class Reading:
    """What a gradient [B, T, V] of a loss says.

    targets: int64 [B, T], the token whose logit the loss raises, or lowers where the weight is negative.
    counted: bool [B, T], whether the gradient is not 0.
    weights: float [B, T], of each position in the loss if `form` is right; 0 where it does not count.
    ascent: whether the loss lowers the targets' logits instead. error: relative difference from the form.
    """

    targets: Tensor
    counted: Tensor
    weights: Tensor
    form: Form
    ascent: bool
    error: float

    @property
    def even(self) -> bool:
        """Whether all counted positions of each row have the same weight."""
        return _spread(self.weights[self.counted], self._rows) <= EVEN

    @property
    def total(self) -> float:
        """The sum of all weights: 1 for a mean."""
        return float(self.weights.double().sum())

    @property
    def _rows(self) -> Tensor:
        if self.counted.shape[1] == 1:
            return torch.zeros_like(self.targets[self.counted])
        return torch.arange(len(self.counted), device=self.counted.device)[:, None].expand_as(self.counted)[
            self.counted
        ]


@dataclass(frozen=True)
class _Fit:
    form: Form
    weights: Tensor
    error: float
    spread: float


def read(logits: Tensor, gradient: Tensor) -> Reading:
    """Return what the gradient of a loss with respect to the logits says: [B, T, V] both, finite."""
    gradient = gradient.detach().float()
    logits = logits.detach().float()
    counted = (gradient != 0).any(dim=-1)
    ascent = logits.shape[-1] > 2 and _is_ascent(gradient[counted])
    targets, flat, fit = _judge(logits, -gradient if ascent else gradient, counted)
    if ascent and fit.form == "other":  # Saturated logits may have a positive entry that is the largest.
        opposite = _judge(logits, gradient, counted)
        if opposite[2].form != "other":
            ascent = False
            targets, flat, fit = opposite
    if fit.form == "other" and logits.shape[-1] > 2 and logits.shape[1] > 1:
        signed = _signed(logits, gradient, counted)
        if signed is not None:
            return signed
    weights = torch.zeros(counted.shape, device=gradient.device)
    weights[counted] = flat.all_weights(fit)
    return Reading(targets, counted, weights, fit.form, ascent, fit.error)


def _judge(logits: Tensor, gradient: Tensor, counted: Tensor) -> "tuple[Tensor, _Flat, _Fit]":
    """Return the targets [B, T], the counted positions and the form of the gradient of a loss that is minimized."""
    targets = gradient.argmin(dim=-1)
    rows = torch.arange(len(counted), device=counted.device)[:, None].expand_as(counted)[counted]
    if logits.shape[1] == 1:
        rows = torch.zeros_like(rows)
    flat = _Flat(logits[counted], gradient[counted], targets[counted], rows)
    return targets, flat, _best(flat)


def _signed(logits: Tensor, gradient: Tensor, counted: Tensor) -> Reading | None:
    """Return the reading of a cross-entropy whose weights have both signs; None if the gradient is that of another."""
    lowered = counted & (gradient.amax(dim=-1) > -gradient.amin(dim=-1))
    sign = torch.where(lowered, -1.0, 1.0)
    targets, flat, fit = _judge(logits, gradient * sign[..., None], counted)
    if fit.form != "cross_entropy" or not bool(lowered.any()) or bool(lowered[counted].all()):
        return None
    weights = torch.zeros(counted.shape, device=gradient.device)
    weights[counted] = flat.all_weights(fit)
    return Reading(targets, counted, weights * sign, "signed_cross_entropy", ascent=False, error=fit.error)


def are_probabilities(outputs: Tensor) -> bool:
    """Return whether `outputs` are nonnegative and sum to one over the last axis."""
    return bool((outputs >= 0).all()) and bool(((outputs.sum(dim=-1) - 1).abs() < 1e-3).all())


def are_log_probabilities(outputs: Tensor) -> bool:
    """Return whether the exponentials of `outputs` sum to one over the last axis."""
    return bool((outputs.logsumexp(dim=-1).abs() < 1e-3).all())


def _is_ascent(gradient: Tensor) -> bool:
    """Return whether the largest entry of most positions is positive; [N, V]. A target's is negative."""
    if not len(gradient):
        return False
    largest = gradient.amax(dim=-1) > -gradient.amin(dim=-1)
    return float(largest.float().mean()) > 0.5


class _Flat:
    """The counted positions: logits and gradients [N, V], targets and rows [N], and a sample of them in float64."""

    def __init__(self, logits: Tensor, gradient: Tensor, targets: Tensor, rows: Tensor) -> None:
        self.logits = logits
        self.gradient = gradient
        self.targets = targets
        n = min(len(targets), SAMPLE_POSITIONS, max(8, SAMPLE_ELEMENTS // logits.shape[-1]))
        chosen = torch.linspace(0, len(targets) - 1, n, device=targets.device).long() if n else targets[:0]
        self.z = logits[chosen].double()
        self.g = gradient[chosen].double()
        self.y = targets[chosen]
        self.rows = rows[chosen]

    def all_weights(self, fit: _Fit) -> Tensor:
        """Return the weight of every counted position [N] if the loss has the form of `fit`."""
        if len(fit.weights) == len(self.targets):
            return fit.weights.float()
        if fit.form == "cross_entropy":
            g = self.gradient.gather(1, self.targets[:, None])[:, 0]
            p = (self.logits.gather(1, self.targets[:, None])[:, 0] - self.logits.logsumexp(dim=-1)).exp()
            return -g / (1 - p).clamp(min=1e-6)
        return fit.weights.mean().float().expand(len(self.targets))


def _best(flat: _Flat) -> _Fit:
    """Return the form that the gradient has; of several, one under which all positions have the same weight."""
    if not len(flat.targets):
        return _Fit("other", flat.z.new_zeros(0), 1.0, 0.0)
    fits = [fit for fit in [*_fits(flat), _smoothed(flat)] if fit.error <= _max_error(fit.form)]
    if not fits:
        return _Fit("other", torch.ones_like(flat.z[:, 0]), 1.0, 0.0)
    best = fits[0]
    for fit in fits[1:]:
        if _is_better(fit, best):
            best = fit
    return best


def _max_error(form: Form) -> float:
    if form == "other":
        return -1.0
    return MAX_MISTAKE_ERROR if form in MISTAKES else MAX_ERROR


def _is_better(fit: _Fit, best: _Fit) -> bool:
    if fit.spread < 0.3 * best.spread and best.spread > EVEN:
        return True
    ratio = float(fit.weights.mean() / best.weights.mean())
    if fit.spread <= EVEN and best.spread <= EVEN and not 0.8 < ratio < 1.25:
        # At equal logits all forms have the gradient of a cross-entropy: take the one whose weights sum to one.
        return _distance_from_mean(fit) < 0.1 and _distance_from_mean(best) > 0.4
    # Nearly the same weights: the error decides, unless it is only that of rounding.
    return abs(fit.spread - best.spread) < EVEN and fit.error < 0.3 * best.error and best.error > ROUNDING


def _distance_from_mean(fit: _Fit) -> float:
    return abs(float(fit.weights.mean()) * len(fit.weights) - 1)


def _fits(flat: _Flat) -> Iterator[_Fit]:
    """Yield the fit of each form, the right ones first."""
    z, y = flat.z, flat.y
    one_hot = torch.zeros_like(z).scatter_(1, y[:, None], 1.0)
    if are_probabilities(z):
        chosen = z.gather(1, y[:, None]).clamp(min=LOWEST_PROBABILITY)
        yield _fit("log_likelihood", flat, -one_hot / chosen)
        yield _fit("double_softmax", flat, z.softmax(dim=-1) - one_hot)
        yield _fit("probability", flat, -one_hot)
        return
    p = z.softmax(dim=-1)
    yield _fit("cross_entropy", flat, p - one_hot)
    if are_log_probabilities(z):
        yield _fit("log_likelihood", flat, -one_hot)
    else:
        yield _fit("missing_log_softmax", flat, -one_hot)
    difference = p.softmax(dim=-1) - one_hot
    yield _fit("double_softmax", flat, p * (difference - (p * difference).sum(dim=-1, keepdim=True)))
    yield _fit("probability", flat, p.gather(1, y[:, None]) * (p - one_hot))


def _fit(form: Form, flat: _Flat, direction: Tensor) -> _Fit:
    """Fit g = w · direction at each position."""
    g = flat.g
    weights = (g * direction).sum(dim=-1) / (direction**2).sum(dim=-1).clamp(min=1e-60)
    error = float((g - weights[:, None] * direction).norm() / g.norm().clamp(min=1e-60))
    return _Fit(form, weights, error, _spread(weights, flat.rows))


def _smoothed(flat: _Flat) -> _Fit:
    """Fit g = a · p − b · e + c: label smoothing has a = b − c V, a penalty on the log of the sum has a > b."""
    z, g = flat.z, flat.g
    p = z.softmax(dim=-1)
    one_hot = torch.zeros_like(z).scatter_(1, flat.y[:, None], 1.0)
    basis = torch.stack([p, one_hot, torch.full_like(p, 1 / p.shape[1])], dim=-1)
    gram = basis.transpose(1, 2) @ basis + 1e-12 * torch.eye(3, dtype=p.dtype, device=p.device)
    parts = torch.linalg.solve(gram, basis.transpose(1, 2) @ g[..., None])
    error = float((g - (basis @ parts)[..., 0]).norm() / g.norm().clamp(min=1e-60))
    a, b = parts[:, 0, 0], -parts[:, 1, 0]
    plausible = (a > 0) & (b > 0.3 * a)
    if z.shape[1] > 3 and float(plausible.double().mean()) > 0.9:
        return _Fit("smoothed_cross_entropy", a, error, _spread(a, flat.rows))
    return _Fit("other", torch.ones_like(a), error, 0.0)


def _spread(weights: Tensor, rows: Tensor) -> float:
    """Return the relative standard deviation of weights [N] around the mean of their own row."""
    if not len(weights):
        return 0.0
    weights = weights.double()
    n_rows = int(rows.max()) + 1
    count = torch.zeros(n_rows, dtype=torch.double, device=weights.device).index_add_(0, rows, torch.ones_like(weights))
    total = torch.zeros(n_rows, dtype=torch.double, device=weights.device).index_add_(0, rows, weights)
    mean = (total / count.clamp(min=1))[rows]
    return float(((weights - mean) / mean.abs().clamp(min=1e-60)).pow(2).mean().sqrt())
