"""Is the loss the mean cross-entropy over the counted targets? Cost: a few evaluations on test logits.

The run's own loss is called with logits of known cross-entropy, and compared with what known faults would return
for them. A loss that accepts no test logits, such as one inside the model, is judged by its gradient with respect to
the model's own logits. A softmax before the cross-entropy leaves a floor of ln(1 + (V − 1) / e): the lowest loss that
probabilities, read as logits, can reach. A second log_softmax is harmless, since it returns log-probabilities
unchanged.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.loss import score_loss
from tui_lab.core.doctor.checks.loss.loss_findings import double_softmax, loss_finding, mistake_in
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.loss_forms import are_probabilities
from tui_lab.core.doctor.measures.loss_gradient import Measurement, of_update, recorded, stated
from tui_lab.core.doctor.measures.loss_probe import close, correct_loss, faulty_losses, own_loss, sample_logits
from tui_lab.core.doctor.measures.trained_targets import label_shift, shifted
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.target_rules import UNKNOWN

MODEL_TOLERANCE = 2e-3
"""Relative difference on the model's own logits up to which the loss counts as a cross-entropy."""
UNEVEN = 0.05
"""Relative deviation of the weights of targets or rows from which they are not equal; bfloat16 rounds by 0.004."""
SIGNED = "it makes some targets more likely and others less, as a loss of preferences or rewards does"
MAX_RESHAPED = 2**22
"""Elements of logits that are reshaped to look for scrambled ones."""


def check(target: Target) -> Iterator[Finding]:
    if target.tokens is None:
        yield from score_loss.check(target)
        return
    with target.evaluating(), torch.no_grad():
        outputs = target.logits_of(target.probe.batch)
    if not are_probabilities(outputs) and bool((outputs >= 0).all()) and bool((outputs > 0).any()):
        yield _activated_logits()
        return
    if target.loss_function is None:
        yield from _judge_assumed(target, outputs)
        return
    with target.evaluating():
        loss = float(target.loss(target.probe.batch).detach())
    if not math.isfinite(loss):
        yield _not_finite(loss)
        return
    if target.output_loss is not None and target.tokens.y is not None:
        try:
            yield from _compare(target, outputs, loss)
        except NotJudged:
            yield from _judge_gradient(target, stated(target))
    else:
        yield from _judge_gradient(target, stated(target))


def _judge_assumed(target: Target, outputs: Tensor) -> Iterator[Finding]:
    """Judge a model whose loss is not stated by the loss of its update."""
    try:
        measurement = of_update(target)[0]
    except (NotJudged, NotApplicable):
        if not are_probabilities(outputs):
            raise
        yield double_softmax(outputs.shape[2], "the model's outputs are positive and sum to one", kind="hint")
        return
    # Whether a step climbs is judged by the check of the optimizer's step.
    yield from (one for one in _judge_gradient(target, measurement) if one.code != "gradient_ascent")


def _compare(target: Target, outputs: Tensor, loss: float) -> Iterator[Finding]:
    """Compare the loss with the cross-entropy, first on test logits, then on the model's `outputs`."""
    moved = shifted(target.probe.y, label_shift(target))
    y = moved.masked_fill(moved == UNKNOWN, target.ignored)
    logits = sample_logits(target, outputs)
    value = own_loss(target, logits)
    correct = correct_loss(logits, y, target.ignored)
    if not close(value, correct):
        for code, faulty in faulty_losses(logits, y, target.ignored):
            if close(value, faulty):
                evidence = f"on test logits your loss returns {value:.4g}; a correct cross-entropy gives {correct:.4g}"
                yield loss_finding(code, evidence, outputs.shape[2])
                return
        raise NotJudged(f"the loss is {value:.4g} where cross-entropy gives {correct:.4g}: it is a different loss")
    expected = correct_loss(outputs, y, target.ignored)
    if abs(loss - expected) > MODEL_TOLERANCE * max(1.0, abs(expected)):
        raise NotJudged(f"on the model the loss is {loss:.4g} where cross-entropy gives {expected:.4g}")


def _judge_gradient(target: Target, measurement: Measurement) -> Iterator[Finding]:
    """Judge a loss by its gradient with respect to the model's own logits."""
    n_vocab = measurement.logits.shape[2]
    mistake = mistake_in(measurement)
    if mistake is not None and mistake[0] == "gradient_ascent" and (_has_signs(target) or _weighs_rows(measurement)):
        raise NotJudged(SIGNED)
    if mistake is not None:
        yield loss_finding(*mistake, n_vocab, measurement.line)
    elif _is_scrambled(target, measurement):
        evidence = "the gradient of the loss is that of cross_entropy(logits.reshape(B, V, T), y)"
        yield loss_finding("scrambled_logits", evidence, n_vocab, measurement.line)
    elif measurement.reading.form == "signed_cross_entropy":
        raise NotJudged(SIGNED)
    elif measurement.reading.form == "other":
        raise NotJudged("it is not the cross-entropy of the returned logits")


def _has_signs(target: Target) -> bool:
    """Return whether the loop makes some targets more likely: the probe may hold those alone that it makes less so."""
    return any(
        one.reading.form == "signed_cross_entropy" or (one.reading.form == "cross_entropy" and not one.reading.ascent)
        for one in recorded(target)
    )


def _weighs_rows(measurement: Measurement) -> bool:
    """Return whether rows have weights of their own, as rewards are, neither equal nor those of a mean of each row."""
    reading = measurement.reading
    rows = reading.weights.sum(dim=1)[reading.counted.any(dim=1)]
    return (
        all(
            float(weights.std()) > UNEVEN * float(weights.mean().abs())
            for weights in (reading.weights[reading.counted], rows)
            if len(weights) > 1
        )
        and len(rows) > 1
    )


def _is_scrambled(target: Target, measurement: Measurement) -> bool:
    """Return whether the gradient is that of the cross-entropy of logits that were reshaped, not transposed."""
    y = measurement.y
    shape = measurement.logits.shape
    if measurement.reading.form != "other" or y is None or shape[1] == 1 or shape.numel() > MAX_RESHAPED:
        return False
    logits = measurement.logits.float().requires_grad_()
    counted = y != target.ignored
    if not bool(((y >= 0) & (y < shape[2]))[counted].all()):
        return False
    with torch.enable_grad():
        loss = torch.nn.functional.cross_entropy(logits.reshape(shape[0], shape[2], -1), y, ignore_index=target.ignored)
    (expected,) = torch.autograd.grad(loss, [logits])
    return float(torch.cosine_similarity(expected.flatten(), measurement.gradient.float().flatten(), dim=0)) > 0.999


def _activated_logits() -> Finding:
    return Finding(
        code="activated_logits",
        title="The logits are never negative: an activation follows the head.",
        evidence="the smallest logit is 0 or more, and the logits do not sum to one",
        why="Logits must be able to become negative; otherwise unlikely tokens keep too much probability.",
        fix="Return the output of the last linear layer, without ReLU, sigmoid or softmax.",
        explains=("initial_loss", "missing_gradient", "dead_relus"),
    )


def _not_finite(loss: float) -> Finding:
    return Finding(
        code="not_finite",
        title=f"The loss is {loss} before any training, although the logits are finite.",
        evidence="measured on the first rows",
        why="One NaN spreads to every weight at the next step.",
        fix="Look for the log of a probability that can be zero, and for a mean over zero targets.",
    )
