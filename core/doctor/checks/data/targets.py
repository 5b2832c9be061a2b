"""Is every position trained on the target that the task defines? Cost: eight batches, a forward pass.

The trained targets are read from the gradient of the loss, so a shift counts wherever it happens: in the loader, in
the loss or in the model.
"""

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.data.masked_copies import masked_copies
from tui_lab.core.doctor.checks.data.swapped_rows import swapped_rows_of
from tui_lab.core.doctor.checks.data.target_findings import (
    copied_beside_masks,
    copied_targets,
    double_shift,
    ignored_targets,
    rows_of_others,
    swapped_rows,
    uncounted_targets,
    unmasked_targets,
    unrelated_rows,
    untrained_ends,
    wrapped_shift,
    wrong_shift,
)
from tui_lab.core.doctor.checks.data.trained_padding import check_padding
from tui_lab.core.doctor.checks.data.unrelated_rows import length_of_unrelated_runs
from tui_lab.core.doctor.checks.data.unused_ends import unused_ends, unused_share
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.dependence import TOLERANCE, other_tokens
from tui_lab.core.doctor.measures.label_log_probs import sees_only_earlier
from tui_lab.core.doctor.measures.loss_calls import trained_calls
from tui_lab.core.doctor.measures.trained_targets import (
    AGREEMENT,
    TrainedTargets,
    agreement,
    shifted,
    trained_targets,
    uses_mask,
)
from tui_lab.core.doctor.program.batch import has_several_calls
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.target_rules import UNKNOWN, next_token

SHORT_ROW = 4
"""Longer rows have more than one counted target, unless something is wrong."""
MAX_IGNORED = 0.5
"""Fraction of the defined targets that may be ignored."""
MAX_SWAPPED = 0.5
"""Fraction of the rows whose targets may be those of another row, which does not happen by chance."""
OFFSETS = (1, 0, 2, -1, 3)
"""y[t] = x[t + offset]: right, copied, one too far, one short of a copy, two too far."""
MIN_DIFFERING = 8
"""Targets by which two offsets must differ for one of them to be proven."""


def check(target: Target) -> Iterator[Finding]:
    trained = trained_targets(target)
    length = trained.batches[0].x.shape[1]
    # Batches that are padded to their longest row have different lengths.
    batches = [batch for batch in trained.batches if batch.x.shape[1] == length]
    x = torch.cat([batch.x for batch in batches])
    y = torch.cat([batch.trained for batch in batches])
    labels = None if batches[0].y is None else torch.cat([batch.y for batch in batches if batch.y is not None])
    unjudged: NotApplicable | NotJudged | None = None
    try:
        yield from _judge(target, trained, x, y, labels)
    except (NotApplicable, NotJudged) as reason:
        unjudged = reason
    yield from check_padding(target, trained)  # Padding shows also where it is unknown which targets are right.
    if unjudged is not None:
        raise unjudged


def _judge(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, labels: Tensor | None) -> Iterator[Finding]:
    if not (y != target.ignored).any():
        yield ignored_targets(target, x, y)
        return
    double = _double_shift(target, trained, x, y, labels)
    if double is not None:
        yield double
    elif target.rule is not None and target.rule is not next_token:
        yield from _compare_with_rule(target, trained, x, y, target.rule(x))
    elif target.rule is next_token or _are_next_tokens(x, y, target.ignored):
        yield from _compare_with_next_token(target, trained, x, y)
    elif _offset(x, y, target.ignored) == 0 and _is_blind_to_own_token(target):
        raise NotApplicable("the logits at a position do not depend on its own token, so they may predict that one")
    elif (swapped := swapped_rows_of(trained, target.ignored)).share > MAX_SWAPPED:
        yield rows_of_others(target, trained, x, y, swapped)
    elif length := length_of_unrelated_runs(x, y, target.ignored):
        yield unrelated_rows(target, x, y, length)
    else:
        yield from _judge_in_any_order(target, trained, x, y, labels)
    yield from _uncounted(target, trained)


def _judge_in_any_order(
    target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, labels: Tensor | None
) -> Iterator[Finding]:
    """Judge targets that are not the next ids of their row."""
    if not target.causal and _offset(x, y, target.ignored) == -1 and _sees_only_earlier(target):
        # A task may ask for an earlier input.
        yield replace(wrong_shift(target, trained, x, y, -2), kind="hint")
    elif (copies := masked_copies(x, y, target.ignored)) and not (target.causal and _sees_only_earlier(target)):
        yield copied_beside_masks(target, x, y, copies)
    elif target.causal or ((labels is None or target.tokens is None) and _sees_only_earlier(target)):
        if (misplaced := _misplaced(target, trained, x, y, next_token(x))) is None:
            raise NotJudged("Case.rule is not set, and y is not a shift of x")
        yield misplaced
    else:
        raise NotApplicable("positions may see later ones, so their targets are not the ids shifted by one")


def _double_shift(
    target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, labels: Tensor | None
) -> Finding | None:
    """Return a finding if the batch's targets are right already and the loss shifts them."""
    if labels is None or trained.shift is None or trained.shift < 1:
        return None
    expected = target.rule(x) if target.rule is not None else next_token(x)
    counted = labels != target.ignored
    if agreement(expected, labels, counted & (expected != target.ignored)) <= AGREEMENT:
        return None
    if target.rule in (None, next_token) and _offset(x, y, target.ignored) in (1, None):
        return None
    return double_shift(target, trained, x, y, expected)


def _compare_with_rule(
    target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, expected: Tensor
) -> Iterator[Finding]:
    is_known = expected != UNKNOWN
    if trained.shift:  # What the shift moved out of the row is unknown.
        is_known = is_known & ~((y == target.ignored) & (shifted(expected, trained.shift) == UNKNOWN))
    counted = y != target.ignored
    if bool((expected == y)[is_known].all()):
        return
    if (misplaced := _misplaced(target, trained, x, y, expected)) is not None:
        yield misplaced
        return
    defined = is_known & (expected != target.ignored)
    if bool((is_known & ~defined & counted).any()):
        yield unmasked_targets(target, x, y, expected)
    elif int((defined & ~counted).sum()) > MAX_IGNORED * int(defined.sum()):
        yield ignored_targets(target, x, y)
    else:
        yield from _mismatched(target, x, y, expected, defined & counted)


def _compare_with_next_token(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor) -> Iterator[Finding]:
    """Compare y with the next tokens of x. Any of them may be ignored, such as a prompt or padding."""
    expected = _next_token_within_rows(x, y, target.ignored)
    counted = y != target.ignored
    if (ends := unused_ends(trained, target.ignored)) is not None and _sees_only_earlier(target):
        yield untrained_ends(target, x, y, ends)
    elif unused_share(x, y, target.ignored) > MAX_IGNORED and _sees_only_earlier(target):
        proof = "most ids of a row come after its last target, so nothing is learned from them"
        yield ignored_targets(target, x, y, proof)
    elif target.rule is not None and y.shape[1] > SHORT_ROW and int(counted.sum()) <= len(y):
        yield ignored_targets(target, x, y)
    elif _wraps_around(x, y):
        yield wrapped_shift(target, x, y)
    elif not bool((expected == y)[(expected != UNKNOWN) & counted].all()):
        if (misplaced := _misplaced(target, trained, x, y, next_token(x))) is not None:
            yield misplaced
        elif target.rule is not None:
            yield from _mismatched(target, x, y, expected, (expected != UNKNOWN) & counted)


def _are_next_tokens(x: Tensor, y: Tensor, ignored: int) -> bool:
    """Return whether the counted targets are the next ids, where a row's last one may be that of padding."""
    within = _next_token_within_rows(x, y, ignored)
    has_known = bool(((within != UNKNOWN) & (y != ignored)).any())
    return _agrees(within if has_known else next_token(x), y, ignored)


def _next_token_within_rows(x: Tensor, y: Tensor, ignored: int) -> Tensor:
    """Return the next tokens, UNKNOWN at each row's last counted target: padding may follow it in x."""
    counted = y != ignored
    last = counted & (counted.flip(1).cumsum(1).flip(1) == 1)
    return next_token(x).masked_fill(last, UNKNOWN)


def _misplaced(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, expected: Tensor) -> Finding | None:
    """Return a finding if y is the inputs themselves, or the expected targets of other positions."""
    if target.rule in (None, next_token):
        offset = _offset(x, y, target.ignored)
        if offset in (None, 1):
            return None
        if offset > 0:
            return wrong_shift(target, trained, x, y, offset - 1)
        return copied_targets(target, trained, x, y, sees_only_earlier=_sees_only_earlier(target))
    if _agrees(x, y, target.ignored):
        return copied_targets(target, trained, x, y, sees_only_earlier=_sees_only_earlier(target))
    for by in (1, -1, 2, -2):
        moved = shifted(expected, by)
        is_known = moved != UNKNOWN
        if bool(is_known.any()) and float((moved == y)[is_known].float().mean()) > AGREEMENT:
            return wrong_shift(target, trained, x, y, by)
    return None


def _offset(x: Tensor, y: Tensor, ignored: int) -> int | None:
    """Return the offset k at which y[t] = x[t + k], None if there is none or the data leave it open.

    In data that repeat, several offsets agree nearly everywhere. The targets where x[t + k] is not x[t + 1] decide.
    """
    counted = y != ignored
    right = shifted(x, 1)
    for k in OFFSETS:
        moved = shifted(x, k)
        if agreement(moved, y, counted) <= AGREEMENT:
            continue
        if k == 1:
            if agreement(right, y, counted) == 1.0:
                return 1
            continue
        differing = counted & (moved != UNKNOWN) & (right != UNKNOWN) & (moved != right)
        if int(differing.sum()) >= MIN_DIFFERING and agreement(moved, y, differing) > AGREEMENT:
            return k
    return 1 if agreement(right, y, counted) > AGREEMENT else None


def _mismatched(target: Target, x: Tensor, y: Tensor, expected: Tensor, counted: Tensor) -> Iterator[Finding]:
    wrong = counted & (expected != y)
    if bool(wrong.any()):
        yield swapped_rows(target, x, y, expected, float(wrong.sum() / counted.sum()))


def _agrees(expected: Tensor, y: Tensor, ignored: int) -> bool:
    """Return whether nearly every is_known, counted target is the expected one."""
    is_known = (expected != UNKNOWN) & (y != ignored)
    return bool(is_known.any()) and float((expected == y)[is_known].float().mean()) > AGREEMENT


def _wraps_around(x: Tensor, y: Tensor) -> bool:
    """Return whether each row's last target is its first token, which nothing else in the row explains."""
    length = x.shape[1]
    if length <= SHORT_ROW or len(torch.unique(x[:, 0])) <= SHORT_ROW or not torch.equal(y[:, -1], x[:, 0]):
        return False
    if len(torch.unique(x[:, -1])) == 1:
        return False  # The same last token everywhere may ask for the first one.
    explained = (x[:, 1:] == x[:, 1:].flip(1)).all(dim=1)  # There and back: the first token ends the row.
    for period in range(1, length - 1):
        repeats = (x[:, period:] == x[:, :-period]).all(dim=1) & (x[:, -period] == x[:, 0])
        explained = explained | repeats
    return float(explained.float().mean()) < 0.5


def _uncounted(target: Target, trained: TrainedTargets) -> Iterator[Finding]:
    """Yield a hint if the loss gives no gradient at most of the positions that have a target.

    Not if it depends on the row which of them have one: then the loss uses a mask of the batch.
    """
    measurement = trained.measurement
    if measurement is None or measurement.y is None or trained.view_shift is None:
        return
    moved = shifted(measurement.y, trained.view_shift)
    defined = (moved != UNKNOWN) & (moved != target.ignored)
    used = int((defined & measurement.reading.counted).sum())
    n_defined = int(defined.sum())
    has_mask = uses_mask(measurement, trained.view_shift, target.ignored)
    if n_defined and not has_mask and used < (1 - MAX_IGNORED) * n_defined:
        yield uncounted_targets(used, n_defined, measurement.line)


def _sees_only_earlier(target: Target) -> bool:
    """Return whether the last token of the probe leaves all earlier logits as they are."""
    if target.tokens is None and has_several_calls(target.batch(0)):
        return all(call.sees_only_earlier for call in trained_calls(target, target.batch(0)))
    if target.tokens is None:
        return sees_only_earlier(target)
    x = target.probe.x
    changed = x.clone()
    changed[:, -1] = x[:, 0]
    if torch.equal(x, changed):
        return target.causal
    with target.evaluating(), torch.no_grad():
        before, after = target.logits(x)[:, :-1], target.logits(changed)[:, :-1]
    return bool((before - after).abs().max() <= 1e-4 * before.abs().max())


def _is_blind_to_own_token(target: Target) -> bool:
    """Return whether the logits at a position see earlier tokens, but not their own.

    As of a model that shifts its inputs itself, or that puts the states of a decision transformer (Chen et al. 2021)
    before the actions that it predicts from them.
    """
    if target.tokens is None:
        return False
    x = target.probe.x
    if x.shape[1] < SHORT_ROW or target.fixed_shape:
        return False
    t = x.shape[1] // 2
    changed = x.clone()
    changed[:, t] = other_tokens(x, torch.ones_like(x, dtype=torch.bool))[:, t]
    with target.evaluating(), torch.no_grad():
        effect = (target.logits(changed) - target.logits(x)).float().abs().amax(dim=(0, 2))
    return bool(effect[t] <= TOLERANCE * effect.max()) and bool(effect[t + 1 :].any())
