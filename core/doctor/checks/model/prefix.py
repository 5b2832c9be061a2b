"""Do a row's first tokens alone get the same logits as within the whole row? Cost: three forward passes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.dependence import counted_predictions, other_tokens, without_dropout
from tui_lab.core.doctor.program.batch import tensors_of, with_tensor
from tui_lab.core.doctor.program.target import Target, required

SHOWN = 1e-3
"""Of the spread of the logits. Healthy: 0 to 2e-6 in float32, 0.01 in bfloat16."""
CLEAR = 1e-2
LOW_PRECISION = 0.1


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    n = x.shape[1] // 2
    if not target.causal or n < 2:
        raise NotApplicable("only rows of a causal model can be continued")
    with target.evaluating(), torch.no_grad(), without_dropout():
        whole = target.logits(x)[:, :n].float()
        exchanged = torch.cat([x[:, :n], other_tokens(x, counted_predictions(target))[:, n:]], dim=1)
        if not torch.allclose(target.logits(exchanged)[:, :n].float(), whole, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise NotJudged("positions see later ones")
        alone = _alone(target, n).float()
    if alone.shape != whole.shape:
        raise NotApplicable("the model returns another number of logits for shorter rows")
    counted = counted_predictions(target)[:, :n]
    differences = (alone - whole).nan_to_num(0.0).abs().amax(dim=-1) * counted
    spread = float((whole.amax(dim=-1) - whole.amin(dim=-1)).nan_to_num(0.0).max().clamp(min=1e-6))
    relative = float(differences.max()) / spread
    is_low = next((p.dtype for p in target.model.parameters()), torch.float32) in (torch.bfloat16, torch.float16)
    if relative > (LOW_PRECISION if is_low else SHOWN):
        yield _finding(relative, n, x.shape[1], int(differences.argmax()) % n)


def _alone(target: Target, n: int) -> Tensor:
    """Return the logits of the first n tokens. Raises NotApplicable if the model does not accept them."""
    batch, x = target.probe.batch, target.probe.x
    y = target.probe.y if target.tokens is not None and target.tokens.y is not None else None
    if any(tensor is not x and tensor is not y for tensor in tensors_of(batch)):
        # Other inputs, such as a source, must stay as they are.
        try:
            return target.logits_of(with_tensor(batch, x, x[:, :n].contiguous()))
        except Exception:
            raise NotApplicable("other inputs of the batch have the length of its rows") from None
    try:
        return target.logits(target.probe.x[:, :n].contiguous())
    except Exception:
        tokens = required(target.tokens)
        if tokens.shortened is None or target.fixed_shape:
            raise NotApplicable("the model accepts rows of one length only") from None
    try:
        return target.logits_of(tokens.shortened(target.probe.batch, n))
    except Exception:
        raise NotApplicable("the model accepts rows of one length only") from None


def _finding(relative: float, n: int, length: int, position: int) -> Finding:
    return Finding(
        code="prefix_differs",
        title="The logits of a position depend on how long its row is.",
        evidence=f"the first {n} tokens alone and within {length} tokens: logits at position {position} differ by "
        f"{relative:.2g} of their spread, though no token after it matters",
        why="Generation feeds shorter rows than training does, so it gets other predictions.",
        fix="Look for masks or positions that are counted from the end, and for a division by the length of the row.",
        kind="finding" if relative > CLEAR else "hint",
    )
