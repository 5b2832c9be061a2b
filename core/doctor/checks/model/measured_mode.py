"""What depends on what in a model, in evaluation mode and, where that computes something else, in training mode."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_lab.core.doctor.measures.attention_record import AttentionRecord
from tui_lab.core.doctor.measures.attention_recorder import record_attention
from tui_lab.core.doctor.measures.dependence import Dependence, dependence
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.target import Target

SAME_MODE = 1e-4
"""Relative difference of the logits up to which training mode computes the same as evaluation mode."""


@dataclass(frozen=True, eq=False)
class MeasuredMode:
    """What was measured in one mode. only_here: whether the other mode shows none of it; mode: its name."""

    target: Target
    mode: str
    result: Dependence
    context: Callable[[], AbstractContextManager[None]]
    only_here: bool = False

    @property
    def suffix(self) -> str:
        """What the title of a finding says of the mode, if only one mode shows it."""
        return f" in {self.mode} mode only" if self.only_here else ""

    def record(self) -> AttentionRecord:
        """Make a forward pass of the probe in this mode and record its attention."""
        x = self.target.probe.x
        with self.context():
            return record_attention(self.target.model, lambda: self.target.logits(x), x)


def measured_modes(target: Target) -> list[MeasuredMode]:
    """Measure in evaluation mode, and in training mode if it computes something else with dropout off."""
    with target.evaluating(), torch.no_grad():
        evaluated = target.logits(target.probe.x)
        result = dependence(target)
    modes = [MeasuredMode(target, "evaluation", result, target.evaluating)]
    trial = target.fresh()
    trial.model.train()
    with torch.no_grad(), without_dropout():
        try:
            first, second = (trial.logits(trial.probe.x) for _ in range(2))
        except Exception:  # A batch norm fails for a single row; the checks of the loss report other reasons.
            return modes
        differs = not are_close(evaluated, first)
        if not differs or not are_close(first, second):  # Such as a spectral norm, which changes with each pass.
            return modes
        modes.append(MeasuredMode(trial, "training", dependence(trial), _training))
    return [_with_difference(modes[0], modes[1]), _with_difference(modes[1], modes[0])]


def _training() -> AbstractContextManager[None]:
    return without_dropout()


def _with_difference(measured: MeasuredMode, other: MeasuredMode) -> MeasuredMode:
    future = bool(measured.result.future.any()) and not bool(other.result.future.any())
    rows = measured.result.mixes_rows and not other.result.mixes_rows
    return MeasuredMode(measured.target, measured.mode, measured.result, measured.context, future or rows)


def are_close(a: Tensor, b: Tensor) -> bool:
    """Return whether logits differ by at most SAME_MODE of the largest of `a`; NaN counts as 0."""
    size = a.float().abs().nan_to_num(0.0).max().clamp(min=1e-3)
    return bool((a.float() - b.float()).nan_to_num(0.0).abs().max() <= SAME_MODE * size)
