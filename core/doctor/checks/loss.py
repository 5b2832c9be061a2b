"""Is the loss the mean cross-entropy over the targets that count? Cost: a few evaluations on made-up logits.

The training's own loss is fed a stub that gives logits of our making, and compared with what the classic mistakes would
give for them. A softmax before the cross-entropy leaves a floor of ln(1 + (V − 1) / e): the best that probabilities,
read as logits, can reach. A log-softmax twice is harmless, since log-softmax of log-probabilities is those again.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from core.doctor.checks.loss_floor import floor
from core.doctor.findings import Finding, Skip
from core.doctor.subject import Probe, Subject, mean_cross_entropy
from core.objective import cross_entropy_sum

ROWS, TOKENS = 3, 8
VOCABULARY = 64
SAME = 1e-3


class Stub(nn.Module):
    """Gives the logits it was given, whatever it is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.given = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.given


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    with subject.evaluating(), torch.no_grad():
        outputs = subject.logits(probe.x)
    probabilities = _are_probabilities(outputs)
    if subject.objective is None:
        if probabilities:
            yield _double_softmax(outputs.shape[2], "the model's outputs are positive and sum to one")
            return
        raise Skip("no loss of its own was given; the plain cross-entropy was taken")
    made, y = _made_up(subject, probabilities)
    found = _value(subject, Stub(made), y)
    logs = made.log() if probabilities else made
    right = float(mean_cross_entropy(logs, y, subject.ignored))
    if _near(found, right):
        _compare_on_the_model(subject, probe, outputs, probabilities)
        return
    for name, value in _mistakes(made, y, subject.ignored).items():
        if _near(found, value):
            yield _named(name, found, right, subject, outputs.shape[2])
            return
    raise Skip(f"the loss is {found:.4g} where the cross-entropy is {right:.4g}: a loss of your own, not judged")


def _compare_on_the_model(subject: Subject, probe: Probe, outputs: Tensor, probabilities: bool) -> None:
    """The same on the model's own outputs, where a loss may take another path. Raises Skip where it differs."""
    with subject.evaluating():
        found = float(subject.loss(probe.x, probe.y).detach())
    logs = outputs.clamp(min=1e-30).log() if probabilities else outputs
    right = float(mean_cross_entropy(logs, probe.y, subject.ignored))
    if abs(found - right) > 2e-3 * max(1.0, abs(right)):
        raise Skip(f"on the model the loss is {found:.4g} where the cross-entropy is {right:.4g}: not judged")


def _are_probabilities(outputs: Tensor) -> bool:
    return bool((outputs >= 0).all()) and bool(((outputs.sum(dim=-1) - 1).abs() < 1e-3).all())


def _made_up(subject: Subject, probabilities: bool) -> tuple[Tensor, Tensor]:
    """Logits (or probabilities) [ROWS, TOKENS, V] that prefer some tokens clearly, and targets, some ignored."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(0, VOCABULARY, (ROWS, TOKENS), generator=generator)
    # Leaning towards the targets, so that a smoothed loss is not the plain one on average.
    logits = 3.0 * torch.randn(ROWS, TOKENS, VOCABULARY, generator=generator) + 3.0 * F.one_hot(y, VOCABULARY)
    y[0, :3] = subject.ignored
    return (logits.softmax(dim=-1) if probabilities else logits).to(subject.device), y.to(subject.device)


def _value(subject: Subject, stub: nn.Module, y: Tensor) -> float:
    assert subject.objective is not None
    try:
        value = subject.objective(stub, torch.zeros_like(y), y)
    except Exception as error:
        raise Skip(f"the loss takes no made-up logits: {error}") from error
    return float(value.detach())


def _mistakes(made: Tensor, y: Tensor, ignored: int) -> dict[str, float]:
    """What each mistake would give for these logits."""
    total = float(cross_entropy_sum(made, y, ignored))
    count = int((y != ignored).sum())
    return {
        "double_softmax": float(mean_cross_entropy(made.softmax(dim=-1), y, ignored)),
        "double_shift": float(mean_cross_entropy(made[:, :-1], y[:, 1:], ignored)),
        "double_shift ": float(cross_entropy_sum(made[:, :-1], y[:, 1:], ignored)) / count,
        "summed_loss": total,
        "wrong_divisor": total / len(y),
        "wrong_divisor ": total / y.numel(),
        "gradient_ascent": -total / count,
    }


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= SAME * max(1.0, abs(b))


def _named(name: str, found: float, right: float, subject: Subject, n_vocab: int) -> Finding:
    evidence = f"for made-up logits the loss is {found:.4g}; the mean cross-entropy over the targets is {right:.4g}"
    name = name.strip()
    if name == "double_softmax":
        return _double_softmax(n_vocab, evidence)
    match name:
        case "double_shift":
            return Finding(
                "double_shift",
                "The targets are shifted twice: in the loader and in the loss.",
                evidence + "; logits[:, :-1] against y[:, 1:] give just that",
                "The model is trained to skip a token.",
                "Shift once. Hugging Face models shift `labels` themselves: give them the inputs, unshifted.",
            )
        case "gradient_ascent":
            return Finding(
                "gradient_ascent",
                "The sign of the loss is wrong: training climbs.",
                evidence,
                "Each update makes the right tokens less likely.",
                "Minimise the negative log-likelihood: F.cross_entropy has the right sign already.",
            )
        case "summed_loss":
            return Finding(
                "summed_loss",
                "The loss is summed over the targets, not averaged.",
                evidence,
                "The gradient grows with the batch: a learning rate found for one batch size fails for another, and "
                "gradient clipping always bites.",
                'reduction="mean", or divide by the number of targets that count.',
            )
        case _:
            return Finding(
                "wrong_divisor",
                "The loss is not averaged over the targets that count.",
                evidence,
                "Losses of batches with other shares of ignored targets cannot be compared, and the step size changes "
                "with them.",
                "Divide by (y != ignored).sum().",
            )


def _double_softmax(n_vocab: int, evidence: str) -> Finding:
    low, chance = floor(n_vocab), math.log(n_vocab)
    return Finding(
        "double_softmax",
        "A softmax stands before the cross-entropy, which has its own.",
        f"{evidence}. The loss can never fall below ln(1 + (V − 1) / e) = {low:.3f}; it starts at ln V = {chance:.3f}",
        "Probabilities are at most 1, so the second softmax cannot become sure, and nearly no gradient is left: no "
        "learning rate, scheduler or optimizer can help.",
        "Give the logits themselves to the cross-entropy; softmax only when sampling.",
        drawing=(
            f"ln V                {chance:8.3f}  ┤ where the loss starts",
            f"ln(1 + (V − 1) / e) {low:8.3f}  ┤ the floor: it never gets below",
            f"without the softmax {0:8.3f}  ┤ what one datapoint can reach",
        ),
        explains=("initial_loss", "cannot_overfit"),
    )
