"""Calls a run's loss with logits of known cross-entropy, to see what it computes from them."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tui_lab.core.doctor.findings import FindingCode, NotJudged
from tui_lab.core.doctor.measures.loss_forms import LOWEST_PROBABILITY, are_probabilities
from tui_lab.core.doctor.program.target import Target, mean_cross_entropy
from tui_lab.core.kernels.chunked_cross_entropy import TargetLosses, cross_entropy_sum

TOLERANCE = 1e-3
"""Relative difference up to which two losses count as equal."""


class ConstantLogits(nn.Module):
    """A model that returns the same logits for any input."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.given = logits

    def forward(self, x: Tensor) -> Tensor:
        return self.given

    def loss_sum(self, x: Tensor, y: Tensor, losses: TargetLosses | None = None) -> Tensor:
        """Return the summed cross-entropy, as the models of the trainer do."""
        return cross_entropy_sum(self.given, y, losses=losses)


def correct_loss(outputs: Tensor, y: Tensor, ignored: int) -> float:
    """Return the mean cross-entropy of logits, or of probabilities if the outputs are such."""
    logits = outputs.clamp(min=LOWEST_PROBABILITY).log() if are_probabilities(outputs) else outputs
    return float(mean_cross_entropy(logits, y, ignored))


def sample_logits(target: Target, outputs: Tensor) -> Tensor:
    """Return outputs [b, t, V] for the probe, of the same kind as the model's `outputs` [b, t, V].

    They favor the targets, so that a smoothed loss differs from the plain one on average.
    """
    generator = torch.Generator().manual_seed(1)
    y = target.probe.y.cpu().clamp(min=0)
    noise = torch.randn(outputs.shape, generator=generator)
    logits = 3.0 * noise + 3.0 * F.one_hot(y, outputs.shape[2])
    if are_probabilities(outputs):
        logits = logits.softmax(dim=-1)
    elif bool((outputs.logsumexp(dim=-1).abs() < 1e-3).all()):
        # The model returns log-probabilities, for which the negative log-likelihood is the cross-entropy.
        logits = logits.log_softmax(dim=-1)
    return logits.to(target.device)


def own_loss(target: Target, logits: Tensor) -> float:
    """Return the run's loss of the probe for `logits`. Raises NotJudged if it does not accept them."""
    if target.output_loss is None:
        raise NotJudged(
            "the loss cannot be computed from test logits: it is computed inside the model or your function"
        )
    try:
        value = target.output_loss(logits, target.probe.batch)
    except Exception as error:
        raise NotJudged(f"the loss does not accept test logits: {error}") from error
    return float(value.detach())


def faulty_losses(logits: Tensor, y: Tensor, ignored: int) -> Iterator[tuple[FindingCode, float]]:
    """Yield what each known fault would compute for these logits, in the order of likelihood."""
    total = float(cross_entropy_sum(logits, y, ignored))
    count = int((y != ignored).sum())
    flat = logits.flatten(0, 1)
    reshaped = logits.reshape(len(logits), logits.shape[2], -1)
    if are_probabilities(logits):
        yield "double_softmax", float(mean_cross_entropy(logits, y, ignored))
        logits = logits.clamp(min=LOWEST_PROBABILITY).log()
        total = float(cross_entropy_sum(logits, y, ignored))
    else:
        yield "double_softmax", float(mean_cross_entropy(logits.softmax(dim=-1), y, ignored))
    yield "summed_loss", total
    yield "wrong_divisor", total / len(y)
    yield "wrong_divisor", total / y.numel()
    yield "gradient_ascent", -total / count
    yield "missing_log_softmax", float(F.nll_loss(flat, y.flatten(), ignore_index=ignored))
    yield "scrambled_logits", float(F.cross_entropy(reshaped, y, ignore_index=ignored))


def close(a: float, b: float) -> bool:
    """Return whether two losses are equal up to TOLERANCE."""
    return abs(a - b) <= TOLERANCE * max(1.0, abs(b))
