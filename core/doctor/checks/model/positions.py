"""Does the model know where a token stands? Cost: five forward passes.

Without positions, the last token's output of the first block stays the same if the tokens before it change places: a
weighted mean has no order. (Later blocks of a causal model see an order through the mask.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.attention_record import AttentionCall, AttentionRecord
from tui_lab.core.doctor.measures.attention_recorder import record_attention
from tui_lab.core.doctor.measures.blocks import outputs_of, repeated_blocks
from tui_lab.core.doctor.measures.dependence import counted_predictions, other_tokens, warmed_up
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.batch import n_rows
from tui_lab.core.doctor.program.nested import mapped
from tui_lab.core.doctor.program.target import Target

INVARIANT = 1e-5
"""Relative change under a permutation. Without positions: at most 1.6e-7; with them: at least 2.7e-4."""
OF_CONTROL = 1e-2
"""The same, as a fraction of the change that other tokens at these places cause."""
SEEN = 1e-3
"""Relative change by other tokens from which a block counts as one that sees them. Where weights start at zero: 3e-5;
without positions: at least 0.1."""
ROWS_DIFFER = 1e-3
"""Relative difference of equal rows. Rounding: 1e-6."""
MIN_TOKENS = 4


@dataclass(frozen=True)
class _Change:
    """How much the last position changes: permuted, exchanged: with the tokens before it; both relative to its size."""

    permuted: float
    exchanged: float

    @property
    def is_invariant(self) -> bool:
        return self.permuted < INVARIANT and self.permuted < OF_CONTROL * self.exchanged

    @property
    def sees_tokens(self) -> bool:
        return self.exchanged > SEEN


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    if x.shape[1] < MIN_TOKENS:
        raise NotApplicable("rows are too short to have an order")
    with target.evaluating(), without_dropout():
        yield from _check(target)


def _check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    record = record_attention(target.model, lambda: target.logits(x), x)
    if not record.calls:
        raise NotApplicable("the order of tokens comes from recurrence or convolution: there is no attention")
    permutation = _permutation(x)
    change = _change(target, permutation)
    if change is None:
        # Weights may start at zero on purpose.
        target = warmed_up(target)
        with target.evaluating():
            change = _change(target, permutation)
    if change is None:
        raise NotJudged("no block or attention was found that sees earlier tokens")
    rows_differ = _equal_rows_differ(target)
    if change.is_invariant and not _is_trained_from_zero(target, permutation):
        yield _no_positions(target, change, rows_differ)
    elif rows_differ > ROWS_DIFFER:
        yield _row_matters(rows_differ)


def _change(target: Target, order: Tensor) -> _Change | None:
    return _first_block(target, order) or _first_attention(target, order)


def _is_trained_from_zero(target: Target, order: Tensor) -> bool:
    """Return whether some updates bring an order: a table of positions may start at zeros."""
    trial = warmed_up(target)
    with trial.evaluating():
        change = _change(trial, order)
    return change is not None and not change.is_invariant


def _permutation(x: Tensor) -> Tensor:
    """Return an order of the positions that keeps the last one. Raises NotJudged if all tokens are equal."""
    if bool((x[:, :-1] == x[:, :1]).all()):
        raise NotJudged("all tokens of the probe are equal")
    T = x.shape[1]
    order = torch.tensor([*reversed(range(T - 1)), T - 1], device=x.device)
    generator = torch.Generator().manual_seed(0)
    while torch.equal(x[:, order], x):
        order = torch.cat([torch.randperm(T - 1, generator=generator), torch.tensor([T - 1])]).to(x.device)
    return order


def _first_block(target: Target, order: Tensor) -> _Change | None:
    """Compare the outputs of the first block that depends on earlier tokens; None if there is no such block."""
    x = target.probe.x
    for _, blocks in repeated_blocks(target.model):
        outputs = [outputs_of(blocks[0], _logits(target, ids)) for ids in _trials(target, order)]
        change = _compared([None if output is None else _last(output, x) for output in outputs])
        if change is not None and change.sees_tokens:
            return change
    return None


def _trials(target: Target, order: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ids, with the tokens before the last one permuted, and with other tokens there."""
    x = target.probe.x
    exchanged = other_tokens(x, counted_predictions(target))
    exchanged[:, -1] = x[:, -1]
    return x, x[:, order].contiguous(), exchanged


def _logits(target: Target, ids: Tensor) -> Callable[[], object]:
    return lambda: target.logits(ids)


def _last(output: Tensor, x: Tensor) -> Tensor | None:
    """Return the last position of vectors [B, T, C] or [T, B, C]."""
    B, T = x.shape
    if output.shape[1] == T and output.shape[0] == B:
        return output[:, -1]
    return output[-1] if output.shape[0] == T and output.shape[1] == B else None


def _compared(outputs: list[Tensor | None]) -> _Change | None:
    if any(output is None for output in outputs):
        return None
    first, permuted, exchanged = (output.float().nan_to_num(0.0) for output in outputs if output is not None)
    if first.shape != permuted.shape or first.shape != exchanged.shape:
        return None
    size = float(first.abs().max().clamp(min=1e-12))
    return _Change(float((first - permuted).abs().max()) / size, float((first - exchanged).abs().max()) / size)


def _first_attention(target: Target, order: Tensor) -> _Change | None:
    """Compare the last query's scores in the first attention over x, in a model without other orders.

    Without positions, they only change places with the tokens. Where the scores are unknown, weights are compared.
    """
    ordered = (nn.RNNBase, nn.modules.conv._ConvNd)
    if any(isinstance(module, ordered) for module in target.model.modules()):
        return None
    records = [record_attention(target.model, _logits(target, ids), ids) for ids in _trials(target, order)]
    for call, permuted, exchanged in zip(*(record.calls for record in records), strict=False):
        T = target.probe.x.shape[1]
        if call.softmax is None or tuple(call.weights.shape[-2:]) != (T, T):
            continue
        rows = [_last_scores(each) for each in (call, permuted, exchanged)]
        spread = float((rows[0].amax(dim=-1) - rows[0].amin(dim=-1)).max().clamp(min=1e-12))
        by_order = float((rows[1] - rows[0][..., order]).abs().max()) / spread
        by_tokens = float((rows[2] - rows[0]).abs().max()) / spread
        if by_tokens > SEEN:
            return _Change(by_order, by_tokens)
    return None


def _last_scores(call: AttentionCall) -> Tensor:
    """Return the scores of the last query, [..., T]; 0 for masked keys."""
    scores = (call.weights if call.scores is None else call.scores).float()[..., -1, :]
    return scores.masked_fill(scores < -1e4, 0.0).nan_to_num(0.0)


def _equal_rows_differ(target: Target) -> float:
    """Return how much the results of equal rows differ, relative to their size."""
    x = target.probe.x
    if len(x) < 2:
        return 0.0
    batch = target.probe.batch
    n = n_rows(batch)
    if n != len(x):
        return 0.0
    equal = mapped(batch, lambda t: t[:1].expand(t.shape).contiguous() if t.dim() and len(t) == n else t)
    outputs = None
    for _, blocks in repeated_blocks(target.model):
        outputs = outputs_of(blocks[0], lambda: target.logits_of(equal))
        break
    if outputs is None or tuple(outputs.shape[:2]) != tuple(x.shape):
        with torch.no_grad():
            outputs = target.logits_of(equal)
    outputs = outputs.float().nan_to_num(0.0)
    return float((outputs - outputs[:1]).abs().max() / outputs.abs().max().clamp(min=1e-12))


def _no_positions(target: Target, change: _Change, rows_differ: float) -> Finding:
    x = target.probe.x
    equal = x[:, :1].expand(x.shape).contiguous()
    record = record_attention(target.model, lambda: target.logits(equal), equal)
    evidence = (
        f"with the tokens before it in another order, the last position's output of the first block changes by "
        f"{change.permuted:.1g}; with other tokens there, by {change.exchanged:.1g}"
    )
    first = next((call for call in record.calls if call.is_square), None)
    varies = (_varies(first, first.query), _varies(first, first.key)) if first is not None else (False, False)
    if rows_differ > ROWS_DIFFER:
        evidence += f"; equal rows of a batch differ by {rows_differ:.2g}"
        return _finding(
            "Positions are counted over the rows of the batch, so every position of a row gets the same one.",
            evidence,
            "Count along the time axis: torch.arange(x.size(1)), and add the table as [1, T, C].",
        )
    if varies == (True, False):
        return _finding(
            "Positions reach the queries only, not the keys, so attention cannot tell where a token stands.",
            evidence + "; for equal tokens, q differs from position to position, and k does not",
            "Rotate q and k by the same angles.",
            first.scores_location if first is not None else "",
        )
    return _recorded_cause(record, evidence)


def _recorded_cause(record: AttentionRecord, evidence: str) -> Finding:
    """Return the finding with the cause that a pass over equal tokens shows, if it shows one."""
    if record.same_angle:
        return _finding(
            "Every position gets the same angle, so its sines and cosines hold no position.",
            evidence + "; sin and cos are computed of an angle that is equal at all positions",
            "Multiply the frequencies by the positions along the time axis: torch.arange(T)[:, None] * frequencies.",
            record.same_angle,
        )
    if record.turned_over:
        return _finding(
            f"Rotary angles are counted over the {record.turned_over}, so every position gets the same ones.",
            evidence + f"; q and k are multiplied by factors that differ along the axis of the {record.turned_over}, "
            "and not along that of the positions",
            "Count the angles along the axis of the positions: axis 1 of [B, T, H, d], or axis 2 of [B, H, T, d].",
            record.turned_location,
        )
    if record.constant_ids:
        return _finding(
            "All position ids are equal, so every position gets the same vector of the table.",
            evidence + "; a table is looked up with one id for all positions",
            "Look it up with torch.arange(T).",
            record.constant_ids,
        )
    return _finding(
        "No position reaches the first block: the model cannot tell the order of the tokens.",
        evidence,
        "Add a position table or sines to the token embedding, rotate q and k, or add a bias by distance to the "
        "scores. If there is one, look why it is not added, or the same at each position.",
    )


def _varies(call: AttentionCall | None, vectors: Tensor | None) -> bool:
    """Return whether the vectors of q or k, [..., T, d], differ from position to position."""
    if call is None or vectors is None or vectors.dim() < 3:
        return False
    along = 0 if call.d_head is None else vectors.dim() - 2  # MultiheadAttention gets [T, B, C].
    difference = (vectors - vectors.narrow(along, 0, 1)).abs().max()
    return bool(difference > INVARIANT * vectors.abs().max())


def _finding(title: str, evidence: str, fix: str, location: str = "") -> Finding:
    return Finding(
        code="no_positions",
        title=title,
        evidence=evidence,
        why="To attention without positions a sentence is a bag of words: what depends on order cannot be learned.",
        fix=fix,
        location="" if location == "?" else location,
    )


def _row_matters(difference: float) -> Finding:
    return Finding(
        code="batch_mixing",
        title="A row's result depends on its place in the batch.",
        evidence=f"equal rows of one batch differ by {difference:.2g} of the size of the outputs",
        why="The order of the rows has no meaning, so the model learns from noise.",
        fix="Look for something that is indexed or computed along the batch axis, such as torch.arange(x.size(0)).",
        kind="hint",
    )
