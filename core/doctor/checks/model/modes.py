"""Does training mode compute the same as evaluation mode once dropout is off? Cost: four forward passes."""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target


def check(target: Target) -> Iterator[Finding]:
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in target.model.modules()):
        raise NotApplicable("batch norm computes something else in training mode, as it should")
    trial = target.fresh()
    batch = trial.probe.batch
    with torch.no_grad(), without_dropout(), Precision() as precision:
        with trial.evaluating():
            evaluated = _outputs(trial, batch)
        trial.model.train()
        try:
            trained = _outputs(trial, batch)
            again = _outputs(replace(trial, seed=trial.seed + 1), batch)
        except Exception as error:
            raise NotJudged(f"the model fails in training mode: {error}") from error
    if not evaluated or [one.shape for one in trained] != [one.shape for one in evaluated]:
        raise NotApplicable("the model returns different outputs in training mode")
    if _difference(trained, again) > precision.allowed:
        raise NotApplicable("training mode is random beyond dropout")
    difference = _difference(trained, evaluated)
    if difference > precision.allowed:
        yield Finding(
            code="mode_difference",
            title="Training mode computes something else than evaluation mode, dropout aside.",
            evidence=f"without dropout, the outputs of both modes differ by {difference:.2g} of their range",
            why="The validation loss is computed by a different function from the one that is trained.",
            fix="Look for `if self.training:` in forward, and for modules whose modes differ.",
            kind="hint",
        )


def _outputs(target: Target, batch: Batch) -> list[Tensor]:
    """Return the logits of a batch, or every float tensor with axes that a model without tokens returns."""
    output = target.output(batch)
    if target.tokens is not None:
        return [target.tokens.logits(output)]
    return [tensor for tensor in tensors_of(output) if tensor.is_floating_point() and tensor.dim()]


def _difference(outputs: list[Tensor], references: list[Tensor]) -> float:
    pairs = zip(outputs, references, strict=True)
    return max(relative_difference(output, reference) for output, reference in pairs)
