"""Does the model compute the same on the CPU and on the accelerator? Cost: two forward passes."""

from collections.abc import Iterator

import torch

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.target import Target

ALLOWED = 0.02
"""Of the range of the logits. TensorFloat-32 and other orders of summation: below 5e-3."""


def check(target: Target) -> Iterator[Finding]:
    other = _other_device(target.device)
    if other is None:
        raise NotApplicable("there is one device only")
    trial = target.fresh()
    batch = trial.probe.batch
    with trial.evaluating(), torch.no_grad(), without_dropout(), Precision() as precision:
        here = trial.logits_of(batch).float().cpu()
        trial.model.to(other)
        try:
            there = trial.logits_of(batch).float().cpu()
        except RuntimeError as error:
            raise NotJudged(f"the model fails on {other}: {error}") from error
    relative = relative_difference(there, here)
    if relative > max(ALLOWED, precision.allowed):
        yield Finding(
            code="device_difference",
            title=f"The model computes something else on {other.type} than on {target.device.type}.",
            evidence=f"the logits of one batch differ by {relative:.2g} of their range",
            why="Training on one device goes well and on the other not, with the same code.",
            fix="Look for tensors that are drawn on each device with its own generator, uninitialized memory "
            "(torch.empty), and operations in low precision.",
        )


def _other_device(device: torch.device) -> torch.device | None:
    """Return the CPU for a model on an accelerator, and the accelerator for one on the CPU; None if there is none."""
    if device.type != "cpu":
        return torch.device("cpu")
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps") if torch.backends.mps.is_available() else None
