"""Is the loss the mean cross-entropy over the counted targets? Cost: a few evaluations on test logits.

The run's own loss is called with logits of known cross-entropy, and compared with what known faults would return
for them. A softmax before the cross-entropy leaves a floor of ln(1 + (V − 1) / e): the lowest loss that probabilities,
read as logits, can reach. A second log_softmax is harmless, since it returns log-probabilities unchanged.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, FindingCode, NotJudged
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.loss_probe import (
    are_probabilities,
    close,
    correct_loss,
    faulty_losses,
    own_loss,
    sample_logits,
)
from tui_lab.core.doctor.target import Target

MODEL_TOLERANCE = 2e-3
"""Relative difference on the model's own logits up to which the loss counts as a cross-entropy."""


def check(target: Target) -> Iterator[Finding]:
    with target.evaluating(), torch.no_grad():
        outputs = target.logits(target.probe.x)
    if not are_probabilities(outputs) and bool((outputs >= 0).all()) and bool((outputs > 0).any()):
        yield _activated_logits()
        return
    if target.loss_function is None:
        if are_probabilities(outputs):
            yield _double_softmax(outputs.shape[2], "the model's outputs are positive and sum to one")
            return
        raise NotJudged("no loss function was given, so torch's cross-entropy is assumed")
    with target.evaluating():
        loss = float(target.loss(target.probe.batch).detach())
    if not math.isfinite(loss):
        yield _not_finite(loss)
        return
    yield from _compare(target, outputs, loss)


def _compare(target: Target, outputs: Tensor, loss: float) -> Iterator[Finding]:
    """Compare the loss with the cross-entropy, first on test logits, then on the model's `outputs`."""
    x, y = target.probe.x, target.probe.y
    logits = sample_logits(target, outputs)
    targets = y
    value = own_loss(target, logits)
    correct = correct_loss(logits, targets, target.ignored)
    if not close(value, correct):
        for code, faulty in faulty_losses(logits, targets, target.ignored):
            if close(value, faulty):
                # A loss that shifts is right if the loader does not.
                if code != "double_shift" or not torch.equal(x, y):
                    yield _finding(code, value, correct, outputs.shape[2])
                return
        raise NotJudged(f"the loss is {value:.4g} where cross-entropy gives {correct:.4g}: it is another loss")
    expected = correct_loss(outputs, y, target.ignored)
    if abs(loss - expected) > MODEL_TOLERANCE * max(1.0, abs(expected)):
        raise NotJudged(f"on the model the loss is {loss:.4g} where cross-entropy gives {expected:.4g}")


def _finding(code: FindingCode, value: float, correct: float, n_vocab: int) -> Finding:
    evidence = f"on test logits your loss returns {value:.4g}; a correct cross-entropy gives {correct:.4g}"
    match code:
        case "double_softmax":
            return _double_softmax(n_vocab, evidence)
        case "double_shift":
            return Finding(
                code=code,
                title="The targets are shifted twice: in the loader and in the loss.",
                evidence=evidence + "; logits[:, :-1] against y[:, 1:] gives the same value",
                why="The model learns to skip a token.",
                fix="Shift once. Hugging Face models shift `labels` themselves, so pass them the unshifted inputs.",
            )
        case "missing_log_softmax":
            return Finding(
                code=code,
                title="nll_loss receives logits: a log_softmax is missing.",
                evidence=evidence + "; F.nll_loss of the logits gives the same value",
                why="This loss can fall without bound just by raising the target logit; the other logits are ignored.",
                fix="Use F.cross_entropy for logits; F.nll_loss expects log-probabilities.",
                explains=("initial_loss",),
            )
        case "scrambled_logits":
            return Finding(
                code=code,
                title="The logits are reshaped where they should be transposed.",
                evidence=evidence + "; logits.reshape(B, V, T) gives the same value",
                why="Each target is compared with logits of other positions and tokens.",
                fix="Use F.cross_entropy(logits.flatten(0, 1), y.flatten()), or logits.transpose(1, 2).",
            )
        case _:
            return _wrong_scale(code, evidence)


def _wrong_scale(code: FindingCode, evidence: str) -> Finding:
    """The cross-entropy times a wrong factor."""
    match code:
        case "gradient_ascent":
            return Finding(
                code=code,
                title="The sign of the loss is wrong: training maximizes it.",
                evidence=evidence,
                why="Each step makes the correct tokens less likely.",
                fix="Minimize the negative log-likelihood; F.cross_entropy already has the right sign.",
            )
        case "summed_loss":
            return Finding(
                code=code,
                title="The loss is summed over the targets, not averaged.",
                evidence=evidence,
                why="The gradient grows with the batch: a learning rate that suits one batch size fails with another, "
                "and gradient clipping is always active.",
                fix='Use reduction="mean", or divide by the number of counted targets.',
            )
        case _:
            return Finding(
                code="wrong_divisor",
                title="The loss is not averaged over the counted targets.",
                evidence=evidence,
                why="The loss and the step size depend on how many targets a batch ignores, so batches cannot be "
                "compared.",
                fix="Divide by (y != ignored).sum().",
            )


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


def _double_softmax(n_vocab: int, evidence: str) -> Finding:
    lowest = floor(n_vocab)
    uniform = math.log(n_vocab)
    return Finding(
        code="double_softmax",
        title="Softmax applied twice: cross_entropy already includes it.",
        evidence=f"{evidence}; the loss starts at ln V = {uniform:.3f} and cannot fall below "
        f"ln(1 + (V − 1) / e) = {lowest:.3f}",
        why="Probabilities are at most 1, so the second softmax can never become confident, and almost no gradient is "
        "left: no learning rate, schedule or optimizer can help.",
        fix="Pass the logits to cross_entropy; use softmax only for sampling.",
        drawing=(
            f"ln V                {uniform:8.3f}  ┤ where the loss starts",
            f"ln(1 + (V − 1) / e) {lowest:8.3f}  ┤ the lowest loss with this fault",
            f"without the softmax {0:8.3f}  ┤ the lowest loss on one example",
        ),
        explains=("initial_loss", "cannot_overfit"),
        reference_loss=lowest,
    )
