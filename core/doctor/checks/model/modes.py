"""Does training mode compute the same as evaluation mode once dropout is off? Cost: four forward passes."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.dependence import without_dropout
from tui_lab.core.doctor.program.target import Target

SAME = 1e-3
"""Of the spread of the logits. Healthy models: 0 to 3e-6."""


def check(target: Target) -> Iterator[Finding]:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in target.model.modules()):
        raise NotApplicable("batch norm computes something else in training mode, as it should")
    trial = target.fresh()
    batch = trial.probe.batch
    with trial.evaluating(), torch.no_grad(), without_dropout():
        evaluated = trial.logits_of(batch)
    trial.model.train()
    with torch.no_grad(), without_dropout():
        try:
            trained = trial.logits_of(batch)
            again = replace(trial, seed=trial.seed + 1).logits_of(batch)
        except Exception as error:
            raise NotJudged(f"the model fails in training mode: {error}") from error
    if trained.shape != evaluated.shape:
        raise NotApplicable("the model returns other logits in training mode")
    if _difference(trained, again) > SAME:
        raise NotApplicable("training mode is random beyond dropout")
    difference = _difference(evaluated, trained)
    if difference > SAME:
        yield Finding(
            code="mode_difference",
            title="Training mode computes something else than evaluation mode, dropout aside.",
            evidence=f"without dropout, the logits of both modes differ by {difference:.2g} of their spread",
            why="The validation loss belongs to another function than the one that is trained.",
            fix="Look for `if self.training:` in forward, and for modules whose modes differ.",
            kind="hint",
        )


def _difference(a: Tensor, b: Tensor) -> float:
    spread = (a.float().amax(dim=-1) - a.float().amin(dim=-1)).nan_to_num(0.0).max().clamp(min=1e-6)
    return float((a.float() - b.float()).nan_to_num(0.0).abs().max() / spread)
