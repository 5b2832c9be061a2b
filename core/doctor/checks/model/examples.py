"""Does the output of an example depend on the other examples of its batch? For models that do not map ids to logits.

An example is replaced by a copy of another one, so that the batch stays one that the model accepts. Whether the first
axis of a batch counts examples is seen from a target for each of them. Cost: two forward passes, and a third one that
is recorded if the outputs of others change.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.model.batch_mixing import rows_mixed
from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.measures.dependence import record_probe
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.measures.inputs import inputs_of
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.batch import Batch, n_rows
from tui_lab.core.doctor.program.nested import mapped, tensors_of
from tui_lab.core.doctor.program.target import Target, trial_rows

MIN_EXAMPLES = 3
N_EXAMPLES = 7
"""As few classes are rare: outputs of as many numbers as examples compare each example with each, as CLIP's do."""


def check(target: Target) -> Iterator[Finding]:
    if target.tokens is not None:
        raise NotApplicable("rows of tokens are judged with causality")
    batch = trial_rows(target.batch(0), N_EXAMPLES, whole=target.fixed_shape)
    n = n_rows(inputs_of(batch))
    _require_examples(batch, n)
    with target.evaluating(), torch.no_grad(), without_dropout(), Precision() as precision:
        before = _output(target, batch, n)
        try:
            after = _output(target, _replaced(batch), n)
        except (RuntimeError, ValueError):
            raise NotApplicable("an example cannot be replaced by another one") from None
        change = relative_difference(after[1:], before[1:])
        if change <= precision.allowed:
            return
        mix = next((mix for mix in record_probe(target).mixes if mix.over_rows), None)
    evidence = f"another first example changes the outputs of the others by {change:.2g} of their range, in evaluation"
    # Without a known cause, it may be meant: a memory, or attention over the batch.
    yield rows_mixed(mix, evidence, kind="hint" if mix is None else "finding")


def _require_examples(batch: Batch, n: int) -> None:
    """Raise NotApplicable if the first axis may count something else, as nodes of a graph or steps of one series."""
    tensors = list(tensors_of(inputs_of(batch)))
    if n < MIN_EXAMPLES or any(tensor.dim() == 0 or len(tensor) != n for tensor in tensors):
        raise NotApplicable("the batch does not have one item of each tensor for each of several examples")
    if not any(tensor.dim() > (2 if tensor.is_floating_point() else 1) for tensor in tensors):
        raise NotApplicable("an example is a single vector, and the batch may be a graph or one series")
    if any(tensor.dim() > 1 and tensor.shape[1] == n for tensor in tensors):
        raise NotApplicable("the batch has another axis of the same length")
    if not any(tensor.shape in ((n,), (n, 1)) for tensor in tensors_of(batch)):
        raise NotApplicable("no tensor of the batch has one target for each example")


def _output(target: Target, batch: Batch, n: int) -> Tensor:
    """Return the first float output [n] or [n, C]. Raises NotApplicable if there is none."""
    for tensor in tensors_of(target.output(batch)):
        if tensor.is_floating_point() and tensor.dim() in (1, 2) and len(tensor) == n and tensor.shape[1:] != (n,):
            return tensor.float()
    raise NotApplicable("the model does not have one output for each example")


def _replaced(batch: Batch) -> Batch:
    """Return the batch with its second example in the place of the first one."""

    def replaced(tensor: Tensor) -> Tensor:
        return torch.cat([tensor[1:2], tensor[1:]])

    inputs = inputs_of(batch)
    changed = mapped(inputs, replaced)
    return changed if inputs is batch else {**batch, **changed}
