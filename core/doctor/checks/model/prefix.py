"""Do a row's first tokens alone get the same logits as within the whole row? Cost: three forward passes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, Kind, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.dependence import counted_predictions, other_tokens
from tui_lab.core.doctor.measures.differences import Precision, relative_difference
from tui_lab.core.doctor.measures.inputs import sources
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.batch import Batch, with_tensor
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Target, required

CLEAR = 1e-2
"""Of the range of the logits, from which a difference is a finding. Faulty models measure 0.18 to 0.6."""


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    n = x.shape[1] // 2
    if not target.causal or n < 2:
        raise NotApplicable("only rows of a causal model can be continued")
    counted = counted_predictions(target)
    with target.evaluating(), torch.no_grad(), without_dropout(), Precision() as precision:
        whole = target.logits(x)[:, :n].float()
        exchanged = torch.cat([x[:, :n], other_tokens(x, counted)[:, n:]], dim=1)
        if not torch.allclose(target.logits(exchanged)[:, :n].float(), whole, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise NotJudged("positions see later ones")
        alone = _alone(target, n).float()
    if alone.shape != whole.shape:
        raise NotApplicable("the model returns a different number of logits for shorter rows")
    relative = relative_difference(alone, whole, counted[:, :n])
    if relative > precision.allowed:
        kind: Kind = "finding" if relative > CLEAR else "hint"
        yield _finding(relative, n, x.shape[1], kind)


def _alone(target: Target, n: int) -> Tensor:
    """Return the logits of the first n tokens. Raises NotApplicable if the model does not accept them."""
    x = target.probe.x
    try:
        return target.logits_of(
            _with_sources(target, required(target.tokens).with_x(target.probe.batch, x[:, :n].contiguous()))
        )
    except Exception:  # Other inputs may have to be as long, too.
        shortened = required(target.tokens).shortened
        if shortened is None or target.fixed_shape:
            raise NotApplicable("the model accepts rows of one length only") from None
    try:
        return target.logits_of(_with_sources(target, shortened(target.probe.batch, n)))
    except Exception:
        raise NotApplicable("the model accepts rows of one length only") from None


def _with_sources(target: Target, shorter: Batch) -> Batch:
    """Return a shorter batch with the whole source of each row, which may have been as long as the row."""
    whole = {id(source) for source in sources(target)}
    for old, new in zip(tensors_of(target.probe.batch), tensors_of(shorter), strict=False):
        if id(old) in whole:
            shorter = with_tensor(shorter, new, old)
    return shorter


def _finding(relative: float, n: int, length: int, kind: Kind) -> Finding:
    return Finding(
        code="prefix_differs",
        title="The logits of a position depend on how long its row is.",
        evidence=f"the first {n} tokens alone and within {length} tokens: their logits differ by {relative:.2g} of the "
        "range of all logits, though no token after them matters",
        why="Generation feeds shorter rows than training does, so it gets other predictions.",
        fix="Look for masks or positions that are counted from the end, and for a division by the length of the row.",
        kind=kind,
    )
