"""Is a prompt trained: tokens that nothing predicts, that come before an answer, or that a mask leaves out?

Cost: 16 batches, and for most programs a comparison of rows in three ids.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.data.answer_openings import check_openings
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.inputs import sources
from tui_lab.core.doctor.measures.loss_gradient import measured_loss, recorded
from tui_lab.core.doctor.measures.predictable_ids import PredictableIds
from tui_lab.core.doctor.measures.trained_targets import (
    TrainedTargets,
    are_next_ids,
    trained_batch,
    trained_targets,
)
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.target_rules import next_token

MAX_STEPS = 16
MAX_ROWS = 512
MIN_ROWS = 96
"""Different rows, at least: fewer make too few pairs that share an id."""
MAX_LENGTH = 256
MIN_RANDOM = 3
"""Targets of a prompt, at least: the first ids of a row of a plain language model may be random, too."""
MIN_SHARE = 0.4
"""Fraction of the targets that a prompt has at least: rows that repeat a random motif three times have a third."""


MOST = 0.95
"""Fraction of the targets before the first 1 of a mask that count, if the loss does not use the mask."""
MIN_PROMPT_IDS = 3
"""Different ids that a mask leaves out: padding at the start of the rows is one."""


@dataclass(frozen=True)
class _Parts:
    """How many targets of a row are random, and how many that follow depend on them; constant ones are left out."""

    n_random: int
    n_dependent: int


def check(target: Target) -> Iterator[Finding]:
    if (share := _masked_share(target)) > 0:
        yield _mask_unused(target, share)
        return
    if target.rule not in (None, next_token):
        raise NotApplicable("the task's rule says which targets count")
    trained = trained_targets(target)
    before_answers = list(check_openings(target, trained))
    if before_answers:
        yield from before_answers
        return
    if not target.causal:
        raise NotApplicable("positions may see later ones")
    if not any(are_next_ids(batch, target.ignored) for batch in trained.batches):
        raise NotApplicable("the targets are not the next ids of their row")
    if any(True for _ in sources(target)):
        raise NotApplicable("the targets may follow from what the model reads beside their row")
    x, y = _rows(target, trained)
    parts = _parts(x, y, _trained_positions(target, trained, x, y))
    if parts is not None:
        yield _prompt_trained(target, parts, x, y)


def _masked_share(target: Target) -> float:
    """Return the fraction of the trained targets that come before the first 1 of an unused mask; 0 without one."""
    masks = () if target.record is None else target.record.observed.masks
    for one in recorded(target) if masks else ():
        for batch in masks:
            if one.x is None or not torch.equal(batch.x[: len(one.x)], one.x.cpu()):
                continue
            counted = one.reading.counted.cpu()
            is_prompt = _before_first_one(batch.mask[: len(one.x), batch.mask.shape[1] - one.x.shape[1] :])
            has_varied_ids = len(torch.unique(one.x.cpu()[is_prompt])) >= MIN_PROMPT_IDS
            if has_varied_ids and float(counted[is_prompt].float().mean()) > MOST:
                return float((counted & is_prompt).sum() / counted.sum())
    return 0.0


def _before_first_one(mask: Tensor) -> Tensor:
    """Return the positions [B, T] before the one that precedes the first 1 of a row; none if the row has no 1.

    That position is left out, since the mask may be that of the ids or of the targets.
    """
    is_before = (mask.cumsum(dim=1) == 0) & mask.any(dim=1, keepdim=True)
    return is_before & torch.nn.functional.pad(is_before[:, 1:], (0, 1))


def _rows(target: Target, trained: TrainedTargets) -> tuple[Tensor, Tensor]:
    """Return rows of one length that differ, and their targets, [N, T] both. Raises NotJudged if they are few."""
    first = trained.batches[0]
    if first.y is None:
        raise NotJudged("it is not known which tensor holds the targets")
    length = first.x.shape[1]
    if not 2 <= length <= MAX_LENGTH:
        raise NotApplicable(f"the rows have {length} tokens")
    batches = []
    n = 0
    for step in range(MAX_STEPS if target.varies else 1):
        batch = trained_batch(target, target.batch(step), trained.view_shift or 0)
        if batch.x.shape[1] == length:
            batches.append(torch.cat([batch.x, batch.trained], dim=1).cpu())
            n += len(batch.x)
        if n >= MAX_ROWS:
            break
    different = torch.unique(torch.cat(batches)[:MAX_ROWS], dim=0)
    if len(different) < MIN_ROWS:
        rows = "1 row" if len(different) == 1 else f"{len(different)} different rows"
        raise NotJudged(
            f"{rows} of one length {'is' if len(different) == 1 else 'are'} too few to tell whether ids are random; "
            f"this check needs batches with {MIN_ROWS} different rows"
        )
    return different[:, :length], different[:, length:]


def _trained_positions(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor) -> Tensor:
    """Return the positions whose target counts in the loss of each row, in their order. Raises NotJudged."""
    measurement = trained.measurement
    if measurement is None or measurement.logits.shape[1] != x.shape[1]:
        measurement = measured_loss(target, target.batch(0))
    if measurement.logits.shape[1] != x.shape[1]:
        raise NotJudged("the loss is not computed from one output for each token")
    has_gradient = measurement.reading.counted.all(dim=0).cpu()
    return torch.nonzero((y != target.ignored).all(dim=0) & has_gradient)[:, 0]


def _parts(x: Tensor, y: Tensor, positions: Tensor) -> _Parts | None:
    """Return the two parts of the rows: first only random targets, then none; None if they have no such parts."""
    if not len(positions) or bool((x[:, : int(positions[0])] != x[:1, : int(positions[0])]).any()):
        return None  # Something before is ignored already.
    compared = PredictableIds(x)
    n_random = n_dependent = 0
    has_strong = False
    for position in positions.tolist():
        result = compared.target(y[:, position], position)
        if result == "constant":
            continue
        if result == "random" and not n_dependent:
            n_random += 1
        elif result == "random" or n_random < MIN_RANDOM:
            return None
        else:
            n_dependent += 1
            has_strong = has_strong or result == "strong"
    if not has_strong or n_random < MIN_SHARE * (n_random + n_dependent):
        return None
    return _Parts(n_random, n_dependent)


def _prompt_trained(target: Target, parts: _Parts, x: Tensor, y: Tensor) -> Finding:
    n = parts.n_random + parts.n_dependent
    row = " ".join(target.show(int(i))[:9] for i in [*x[0, :12].tolist()])
    return Finding(
        code="prompt_trained",
        kind="hint",
        title=f"The model is trained on random tokens: the first {parts.n_random} of {n} targets of a row cannot be "
        "predicted.",
        evidence=f"in {len(x)} rows, no earlier id predicts these targets; the {parts.n_dependent} after them depend "
        "on them",
        why="If they are a prompt, their loss never falls, hides how well the answer is learned, and most of the "
        "gradient is noise.",
        fix=f"Set the targets of the prompt to {target.ignored}, the loss's ignore_index, so that only the answer "
        "counts.",
        drawing=(f"x[0]  {row}",),
    )


def _mask_unused(target: Target, share: float) -> Finding:
    return Finding(
        code="prompt_trained",
        kind="hint",
        title=f"The batch has a mask that the loss does not use: {share:.0%} of the trained targets come before its "
        "first 1.",
        evidence="the gradient of the loss is not 0 there, and the model does not get the mask",
        why="If the mask marks the answer, the model is trained on the prompt, too, which may be most of the gradient.",
        fix=f"Set the targets to {target.ignored} where the mask is 0, or multiply the loss of each token by the mask.",
    )
