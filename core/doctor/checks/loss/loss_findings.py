"""Findings on a cross-entropy that several checks share, and what its gradient shows."""

import math
from dataclasses import replace

import torch

from tui_lab.core.doctor.findings import Finding, FindingCode, Kind
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.measures.loss_gradient import Measurement

MAX_SCALE_ERROR = 0.02
"""Relative error up to which the sum of all weights is a given number."""
MAX_VALUE_ERROR = 0.01
"""Relative error up to which a loss has a value; bfloat16 rounds by 0.004."""
MIN_SCALE = 1.1
"""Smaller factors may come from the edges of rows, or from a penalty on the logits."""


def mistake_in(measurement: Measurement) -> tuple[FindingCode, str] | None:
    """Return the mistake that the gradient of a loss shows, and the evidence; None if there is none."""
    reading = measurement.reading
    n_vocab = measurement.logits.shape[-1]
    if n_vocab < 2:  # A softmax over one score is 1.
        return None
    total = measurement.total_weight
    close = "the gradient of the loss with respect to the logits"
    error = f"relative difference {reading.error:.0e}"
    match reading.form:
        case "double_softmax":
            if n_vocab == 2 and measurement.logits.std(dim=-1).max() < 1e-6:
                return None  # The same gradient as that of a binary cross-entropy.
            return "double_softmax", f"{close} is that of cross_entropy(softmax(logits)) ({error})"
        case "probability":
            return (
                "missing_log_softmax",
                f"{close} is that of −p[target], a probability without its logarithm ({error})",
            )
        case "missing_log_softmax" if _is_linear(measurement):
            return "missing_log_softmax", f"{close} is that of −logits[target] ({error})"
        case "cross_entropy" | "smoothed_cross_entropy":
            return _scale_mistake(measurement, total, close)
    return None


def _is_linear(measurement: Measurement) -> bool:
    """Return whether a loss with the gradient of −logits[target] is linear in the logits, as that one is.

    A regression of one output per row, as in deep Q-learning, has the same gradient where all errors have one sign.
    A loss that is linear in the logits z, and 0 at z = 0, equals the inner product of its gradient and z.
    """
    logits = measurement.logits.double()
    if not bool(logits.any()):
        return False
    if logits.shape[1] > 1:
        return True
    if measurement.value is None or measurement.n_rows != len(logits):
        return False
    product = float((logits * measurement.gradient.double()).sum())
    return math.isclose(measurement.value, product, rel_tol=MAX_VALUE_ERROR)


def _scale_mistake(measurement: Measurement, total: float, close: str) -> tuple[FindingCode, str] | None:
    reading = measurement.reading
    n = measurement.n_counted
    rows = measurement.n_rows
    flipped = _is_flipped(measurement)
    if reading.ascent or flipped:
        return "gradient_ascent", f"{close} is that of −cross_entropy: a step makes the targets less likely"
    size = f"it is {total:,.4g} times that of the mean over the {n:,} counted targets"
    if total < MIN_SCALE or n < 2:
        positions = rows * measurement.logits.shape[1]
        if n < 0.9 * positions and _is(total, n / positions):
            return "wrong_divisor", f"{size}, as if divided by all {positions:,} positions"
        return None
    if _is(total, n):
        return "summed_loss", f"{size}, as that of a sum"
    if _is(total, n / rows):
        return "wrong_divisor", f"{size}, as if the sum were divided by the {rows:,} rows"
    return None


def _is(value: float, expected: float) -> bool:
    return abs(value - expected) <= MAX_SCALE_ERROR * expected


def _is_flipped(measurement: Measurement) -> bool:
    """Return whether of two classes the gradient raises the one that is not the target."""
    y = measurement.y
    reading = measurement.reading
    if y is None or measurement.logits.shape[-1] != 2 or not bool(reading.counted.any()):
        return False
    return float((reading.targets == 1 - y)[reading.counted].float().mean()) > 0.98


def loss_finding(code: FindingCode, evidence: str, n_vocab: int, line: str = "") -> Finding:
    """Return the finding on a cross-entropy with this mistake."""
    return replace(_loss_finding(code, evidence, n_vocab), location=line)


def _loss_finding(code: FindingCode, evidence: str, n_vocab: int) -> Finding:
    match code:
        case "double_softmax":
            return double_softmax(n_vocab, evidence)
        case "missing_log_softmax":
            return Finding(
                code=code,
                title="nll_loss receives probabilities: their logarithm is missing."
                if "probability" in evidence
                else "nll_loss receives logits: a log_softmax is missing.",
                evidence=evidence,
                why="This loss can fall without bound just by raising the target logit; the other logits are ignored.",
                fix="Use F.cross_entropy for logits; F.nll_loss expects log-probabilities.",
                explains=("initial_loss", "lr_too_high", "cannot_overfit"),
            )
        case "scrambled_logits":
            return Finding(
                code=code,
                title="The logits are reshaped where they should be transposed.",
                evidence=evidence,
                why="Each target is compared with logits of other positions and tokens.",
                fix="Use F.cross_entropy(logits.flatten(0, 1), y.flatten()), or logits.transpose(1, 2).",
            )
        case _:
            return _wrong_scale(code, evidence)


def _wrong_scale(code: FindingCode, evidence: str) -> Finding:
    """Return the cross-entropy times a wrong factor."""
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


def double_softmax(n_vocab: int, evidence: str, kind: Kind = "finding") -> Finding:
    """Return the finding on a softmax before the cross-entropy, with the floor that it leaves."""
    lowest = floor(n_vocab)
    uniform = math.log(n_vocab)
    return Finding(
        code="double_softmax",
        kind=kind,
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


def double_sigmoid(evidence: str, kind: Kind = "finding") -> Finding:
    """Return the finding on a sigmoid before a binary cross-entropy that includes one."""
    return Finding(
        code="double_sigmoid",
        kind=kind,
        title="Sigmoid applied twice: binary_cross_entropy_with_logits already includes it."
        if kind == "finding"
        else "binary_cross_entropy_with_logits may get probabilities: it already includes a sigmoid.",
        evidence=evidence,
        why="The second sigmoid sees values between 0 and 1 only, so no answer can be more certain than 73 %, and the "
        "loss cannot fall below 0.31 for positive and 0.69 for negative targets.",
        fix="Pass the logits to binary_cross_entropy_with_logits; use sigmoid only for predictions.",
        explains=("cannot_overfit",),
    )


def output_broadcast(output: tuple[int, ...], targets: tuple[int, ...]) -> Finding:
    """Return the finding on outputs and targets of the shapes [n, 1] and [n], which a loss broadcasts to [n, n]."""
    shape = list(torch.broadcast_shapes(output, targets))  # type: ignore[no-untyped-call]
    n = math.prod(output if len(output) < len(targets) else targets)
    return Finding(
        code="output_broadcast",
        title=f"The loss compares every output with every target: shapes {list(output)} and {list(targets)}.",
        evidence=f"the difference has the shape {shape}, {math.prod(shape):,} pairs instead of {n:,}",
        why="The best answer to this loss is the mean of all targets, so the model learns to ignore its input.",
        fix="Give both the same shape: output.squeeze(-1), or targets.unsqueeze(-1).",
        explains=("input_ignored", "cannot_overfit"),
    )
