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

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.target import Probe, Subject, mean_cross_entropy
from tui_lab.core.kernels.chunked_cross_entropy import cross_entropy_sum

ROWS, TOKENS = 3, 8
SAME = 1e-3


class Stub(nn.Module):
    """Gives the logits it was given, whatever it is asked."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.given = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.given

    def loss_sum(self, x: Tensor, y: Tensor) -> Tensor:
        """The summed cross-entropy, as the lab's models have it."""
        return cross_entropy_sum(self.given, y)


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    with subject.evaluating(), torch.no_grad():
        outputs = subject.logits(probe.x)
    if not _are_probabilities(outputs) and bool((outputs >= 0).all()) and bool((outputs > 0).any()):
        yield _activated()
        return
    if subject.objective is None:
        if _are_probabilities(outputs):
            yield _double_softmax(outputs.shape[2], "the model's outputs are positive and sum to one")
            return
        raise Skip("no loss of its own was given; the plain cross-entropy was taken")
    with subject.evaluating():
        own = float(subject.loss(probe.x, probe.y).detach())
    if not math.isfinite(own):
        yield _not_finite(own)
        return
    yield from _on_made_up(subject, probe, outputs, own)


def _on_made_up(subject: Subject, probe: Probe, outputs: Tensor, own: float) -> Iterator[Finding]:
    """The loss on logits of our making, then on the model's own."""
    made, y = _made_up(subject, outputs, bool((probe.y == subject.ignored).any()))
    found = _value(subject, made, y)
    right = _right(made, y, subject.ignored)
    if not _near(found, right):
        for name, value in _mistakes(made, y, subject.ignored).items():
            if _near(found, value):
                if name.strip() != "double_shift" or not torch.equal(probe.x, probe.y):
                    yield _named(name.strip(), found, right, outputs.shape[2])
                return
        raise Skip(f"the loss is {found:.4g} where the cross-entropy is {right:.4g}: a loss of your own, not judged")
    meant = _right(outputs, probe.y, subject.ignored)
    if abs(own - meant) > 2e-3 * max(1.0, abs(meant)):
        raise Skip(f"on the model the loss is {own:.4g} where the cross-entropy is {meant:.4g}: not judged")


def shifts_itself(subject: Subject) -> bool:
    """Whether the loss shifts the targets, as Hugging Face's do."""
    if subject.objective is None:
        return False
    x, targets = subject.batch(0)
    try:
        with subject.evaluating(), torch.no_grad():
            outputs = subject.logits(x[:1].to(subject.device))
        made, y = _made_up(subject, outputs, bool((targets == subject.ignored).any()))
        found = _value(subject, made, y)
    except Exception:  # Whatever it is, the check of the loss says it.
        return False
    return _near(found, float(mean_cross_entropy(made[:, :-1], y[:, 1:], subject.ignored)))


def _are_probabilities(outputs: Tensor) -> bool:
    return bool((outputs >= 0).all()) and bool(((outputs.sum(dim=-1) - 1).abs() < 1e-3).all())


def _right(outputs: Tensor, y: Tensor, ignored: int) -> float:
    """The mean cross-entropy of logits, or of probabilities where the outputs are such."""
    logs = outputs.clamp(min=1e-30).log() if _are_probabilities(outputs) else outputs
    return float(mean_cross_entropy(logs, y, ignored))


def _made_up(subject: Subject, outputs: Tensor, ignoring: bool) -> tuple[Tensor, Tensor]:
    """Outputs [ROWS, TOKENS, V] of the same kind as the model's that prefer some tokens clearly, and targets.

    They lean towards the targets, so that a smoothed loss is not the plain one on average. Some targets are ignored
    where the training ignores some.
    """
    generator, n_vocab = torch.Generator().manual_seed(1), outputs.shape[2]
    y = torch.randint(0, n_vocab, (ROWS, TOKENS), generator=generator)
    made = 3.0 * torch.randn(ROWS, TOKENS, n_vocab, generator=generator) + 3.0 * F.one_hot(y, n_vocab)
    if ignoring:
        y[0, :3] = subject.ignored
    if _are_probabilities(outputs):
        made = made.softmax(dim=-1)
    elif bool((outputs.logsumexp(dim=-1).abs() < 1e-3).all()):
        # The model gives log-probabilities, for which the negative log-likelihood is the cross-entropy.
        made = made.log_softmax(dim=-1)
    return made.to(subject.device), y.to(subject.device)


def _value(subject: Subject, made: Tensor, y: Tensor) -> float:
    """The training's loss for made-up outputs. Raises Skip where it takes none."""
    assert subject.objective is not None
    try:
        value = subject.objective(Stub(made), torch.zeros_like(y), y)
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
        "missing_log_softmax": float(F.nll_loss(made.flatten(0, 1), y.flatten(), ignore_index=ignored)),
        "scrambled_logits": float(F.cross_entropy(made.reshape(len(made), made.shape[2], -1), y, ignore_index=ignored)),
    }


def _near(a: float, b: float) -> bool:
    return abs(a - b) <= SAME * max(1.0, abs(b))


def _named(name: str, found: float, right: float, n_vocab: int) -> Finding:
    evidence = f"for made-up logits the loss is {found:.4g}; the mean cross-entropy over the targets is {right:.4g}"
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
        case "missing_log_softmax":
            return Finding(
                name,
                "The negative log-likelihood is taken of logits: a log-softmax is missing.",
                evidence + "; F.nll_loss of the logits gives just that",
                "It falls without bound by making one logit larger, and says nothing of the others.",
                "F.cross_entropy takes logits; F.nll_loss takes log-probabilities.",
                explains=("initial_loss",),
            )
        case "scrambled_logits":
            return Finding(
                name,
                "The logits are reshaped where they should be transposed.",
                evidence + "; logits.reshape(B, V, T) gives just that",
                "Each target is held against logits of other positions and tokens.",
                "F.cross_entropy(logits.flatten(0, 1), y.flatten()), or logits.transpose(1, 2).",
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


def _activated() -> Finding:
    return Finding(
        "activated_logits",
        "The logits are never negative: an activation stands on the head.",
        "the smallest of all logits is 0 or more, and they do not sum to one",
        "Logits must be free to fall: unlikely tokens cannot be told from impossible ones.",
        "Let the last linear map give the logits; no ReLU, sigmoid or softmax after it.",
        explains=("initial_loss", "missing_gradient", "dead_relus"),
    )


def _not_finite(own: float) -> Finding:
    return Finding(
        "not_finite",
        f"The loss is {own} before any training, though the logits are finite.",
        "the loss on the first rows",
        "One NaN spreads to every weight at the next update.",
        "Look for the log of a probability that can be zero, and for a mean over no targets.",
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
