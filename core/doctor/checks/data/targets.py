"""Is every position trained on the target that the task defines? Cost: eight batches, a forward pass.

The trained targets are read from the gradient of the loss, so a shift counts wherever it happens: in the loader, in
the loss or in the model.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.model.padding import check_padding
from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.measures.trained_targets import AGREEMENT, TrainedTargets, agreement, shifted, trained_targets
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.target_rules import UNKNOWN, next_token

SHORT_ROW = 4
"""Longer rows have more than one counted target, unless something is wrong."""
MAX_IGNORED = 0.5
"""Fraction of the defined targets that may be ignored."""
MIN_UNUSED_IDS = 3
"""Different ids after the last targets of the rows: fewer may be the template of an answer's end."""
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
    yield from _judge(target, trained, x, y, labels)
    yield from check_padding(target, trained)


def _judge(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, labels: Tensor | None) -> Iterator[Finding]:
    if not (y != target.ignored).any():
        yield _ignored(target, x, y, "Every target is ignored, so there is nothing to learn.")
        return
    double = _double_shift(target, trained, x, y, labels)
    if double is not None:
        yield double
    elif target.rule is not None and target.rule is not next_token:
        yield from _compare_with_rule(target, trained, x, y, target.rule(x))
    elif target.rule is next_token or _are_next_tokens(x, y, target.ignored):
        yield from _compare_with_next_token(target, trained, x, y)
    elif not target.causal:
        raise NotApplicable("positions may see later ones, so their targets are no shift of the ids")
    elif (misplaced := _misplaced(target, trained, x, y, next_token(x))) is not None:
        yield misplaced
    else:
        raise NotJudged("Case.rule is not set, and y is not a shift of x")
    yield from _uncounted(target, trained)


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
    return _shifted_twice(target, trained, x, y, expected)


def _compare_with_rule(
    target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, expected: Tensor
) -> Iterator[Finding]:
    known = expected != UNKNOWN
    if trained.shift:  # What the shift moved out of the row is unknown.
        known = known & ~((y == target.ignored) & (shifted(expected, trained.shift) == UNKNOWN))
    counted = y != target.ignored
    if bool((expected == y)[known].all()):
        return
    if (misplaced := _misplaced(target, trained, x, y, expected)) is not None:
        yield misplaced
        return
    defined = known & (expected != target.ignored)
    if bool((known & ~defined & counted).any()):
        yield _unmasked(target, x, y, expected)
    elif int((defined & ~counted).sum()) > MAX_IGNORED * int(defined.sum()):
        yield _ignored(target, x, y, f"{int((~counted).sum()) / y.numel():.0%} of the targets are ignored.")
    else:
        yield from _mismatched(target, x, y, expected, defined & counted)


def _compare_with_next_token(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor) -> Iterator[Finding]:
    """Compare y with the next tokens of x. Any of them may be ignored, such as a prompt or padding."""
    expected = _next_token_within_rows(x, y, target.ignored)
    counted = y != target.ignored
    title = f"{int((~counted).sum()) / y.numel():.0%} of the targets are ignored."
    if _unused_share(x, y, target.ignored) > MAX_IGNORED and _sees_only_earlier(target):
        yield _ignored(
            target, x, y, title, "most ids of a row come after its last target, so nothing is learned from them"
        )
    elif target.rule is not None and y.shape[1] > SHORT_ROW and int(counted.sum()) <= len(y):
        yield _ignored(target, x, y, title)
    elif _wraps_around(x, y):
        yield _wrapped(target, x, y)
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


def _unused_share(x: Tensor, y: Tensor, ignored: int) -> float:
    """Return the fraction of the ids, without padding, that come after their row's last target in x.

    A causal model uses these ids neither as inputs nor as targets. The end of a row counts as padding if it repeats
    one id.
    """
    counted = y != ignored
    position = torch.arange(x.shape[1], device=x.device)
    last = torch.where(counted, position, -1).amax(dim=1)
    n_repeated = (x == x[:, -1:]).flip(1).cumprod(dim=1).sum(dim=1)
    n_ids = x.shape[1] - torch.where(n_repeated > 1, n_repeated, 0)
    is_unused = (position > last[:, None] + 1) & (position < n_ids[:, None]) & (last >= 0)[:, None]
    if len(torch.unique(x[is_unused])) < MIN_UNUSED_IDS:
        return 0.0
    return float(is_unused.sum() / n_ids.sum())


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
        return _copied(target, trained, x, y) if offset == 0 else _wrong_shift(target, trained, x, y, offset - 1)
    if _agrees(x, y, target.ignored):
        return _copied(target, trained, x, y)
    for by in (1, -1, 2, -2):
        moved = shifted(expected, by)
        known = moved != UNKNOWN
        if bool(known.any()) and float((moved == y)[known].float().mean()) > AGREEMENT:
            return _wrong_shift(target, trained, x, y, by)
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
        yield _swapped_rows(target, x, y, expected, float(wrong.sum() / counted.sum()))


def _agrees(expected: Tensor, y: Tensor, ignored: int) -> bool:
    """Return whether nearly every known, counted target is the expected one."""
    known = (expected != UNKNOWN) & (y != ignored)
    return bool(known.any()) and float((expected == y)[known].float().mean()) > AGREEMENT


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
    """Yield a hint if the loss gives no gradient at most of the positions that have a target."""
    measurement = trained.measurement
    if measurement is None or measurement.y is None or trained.view_shift is None:
        return
    moved = shifted(measurement.y, trained.view_shift)
    defined = (moved != UNKNOWN) & (moved != target.ignored)
    used = int((defined & measurement.reading.counted).sum())
    n_defined = int(defined.sum())
    if n_defined and used < (1 - MAX_IGNORED) * n_defined:
        yield Finding(
            code="ignored_targets",
            kind="hint",
            title=f"The loss uses only {used} of {n_defined} targets that are not ignored.",
            evidence="the gradient of the loss with respect to the logits is 0 at the other positions",
            why="An ignored target gives no gradient, so most of the compute on each batch is wasted.",
            fix="Compute the loss on the logits of all positions, unless only some of them are meant to be trained.",
            location=measurement.line,
        )


def _rows(target: Target, x: Tensor, y: Tensor, expected: Tensor | None = None, n: int = 12) -> tuple[str, ...]:
    """Draw the first row in columns: x, y and the expected y."""
    rows = [("x", x[0, :n]), ("y", y[0, :n])]
    if expected is not None:
        rows.append(("expected", expected[0, :n]))

    def show(token: int) -> str:
        return ("–" if token == target.ignored else "?" if token == UNKNOWN else target.show(token))[:9]

    cells = [[show(int(token)) for token in row] for _, row in rows]
    width = max(len(cell) for line in cells for cell in line)
    lines = [" ".join(f"{cell:<{width}}" for cell in line) for line in cells]
    return tuple(f"{name:<9}{line}" for (name, _), line in zip(rows, lines, strict=True))


def _wrapped(target: Target, x: Tensor, y: Tensor) -> Finding:
    return Finding(
        code="shifted_targets",
        title="The shift wraps around: each row's last target is its first token.",
        evidence=f"y[-1] = x[0] in all {len(x)} rows, as torch.roll(x, -1) returns",
        why="One target per row is meaningless, and its loss never falls.",
        fix="Cut rows of T + 1 tokens: x = tokens[:-1], y = tokens[1:].",
        drawing=_rows(target, x[:, -8:], y[:, -8:]),
    )


def _where(trained: TrainedTargets) -> str:
    """Say who shifts the targets: the batches, the loss, or nobody."""
    if trained.shift is None:
        return "measured on the batches"
    return (
        f"the loss trains position t on y[t{trained.shift:+d}] of the batch"
        if trained.shift
        else ("the loss uses the batch's y as it is")
    )


def _copied(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor) -> Finding:
    n = int((y != target.ignored).sum())
    certain = _sees_only_earlier(target)
    return Finding(
        code="copied_targets",
        kind="finding" if certain else "hint",
        title="The targets equal the inputs: y[t] = x[t].",
        evidence=f"{n:,} counted targets equal the input at their own position; {_where(trained)}",
        why="The model learns to copy its input: the loss falls to zero, but it cannot predict the next token.",
        fix="Shift by one: x = tokens[:-1], y = tokens[1:]."
        if certain
        else "If the model should predict the next token, it needs a causal mask and targets that are shifted by one; "
        "if it should reconstruct its input, nothing.",
        location="" if trained.measurement is None else trained.measurement.line,
        drawing=_rows(target, x, y),
    )


def _sees_only_earlier(target: Target) -> bool:
    """Return whether the last token of the probe leaves all earlier logits as they are."""
    x = target.probe.x
    changed = x.clone()
    changed[:, -1] = x[:, 0]
    if torch.equal(x, changed) or target.fixed_shape:
        return target.causal
    with target.evaluating(), torch.no_grad():
        before, after = target.logits(x)[:, :-1], target.logits(changed)[:, :-1]
    return bool((before - after).abs().max() <= 1e-4 * before.abs().max())


def _shifted_twice(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, expected: Tensor) -> Finding:
    shift = trained.shift or 0
    next_ids = target.rule in (None, next_token)
    place = "y[t] = x[t+1]" if next_ids else "y is what the task defines"
    total = f", so it learns x[t{1 + shift:+d}]" if next_ids else ""
    return Finding(
        code="double_shift",
        title="The targets are shifted twice: in the loader and in the loss.",
        evidence=f"in the batch {place} already; the gradient of the loss shows that position t is trained on "
        f"y[t{shift:+d}]{total}",
        why="The model learns to skip a token.",
        fix="Shift once. Hugging Face models shift `labels` themselves, so pass them the unshifted inputs.",
        location="" if trained.measurement is None else trained.measurement.line,
        drawing=_rows(target, x, y, expected),
    )


def _wrong_shift(target: Target, trained: TrainedTargets, x: Tensor, y: Tensor, by: int) -> Finding:
    """by: how many positions too far; negative: short."""
    distance = f"{'one position' if abs(by) == 1 else f'{abs(by)} positions'} {'too far' if by > 0 else 'short'}"
    by_rule = target.rule is not None and target.rule is not next_token
    equation = f"y[t] = expected y[t{by:+d}]" if by_rule else f"y[t] = x[t{by + 1:+d}]"
    return Finding(
        code="shifted_targets",
        title=f"Targets are shifted {distance} ({equation}).",
        evidence=f"y[t] is the target that position t{by:+d} should have; {_where(trained)}",
        why="The model must predict a token without having seen the one before it, so generation skips tokens."
        if by > 0
        else "The model is asked for a token that is already in its input, so it learns to copy.",
        fix="Shift once, in the loader or in the loss: x = tokens[:-1], y = tokens[1:].",
        location="" if trained.measurement is None else trained.measurement.line,
        drawing=_rows(target, x, y, target.rule(x) if target.rule else next_token(x)),
    )


def _unmasked(target: Target, x: Tensor, y: Tensor, expected: Tensor) -> Finding:
    share = float(((expected == target.ignored) & (y != target.ignored)).float().mean())
    return Finding(
        code="unmasked_targets",
        title=f"{share:.0%} of the targets should be ignored but count in the loss.",
        evidence="targets count at positions where the task defines none",
        why="They cannot be predicted from what comes before, so their loss stays high and hides how well the rest is "
        "learned.",
        fix=f"Set y to {target.ignored} at the positions of the prompt.",
        drawing=_rows(target, x, y, expected),
    )


def _ignored(target: Target, x: Tensor, y: Tensor, title: str, proof: str = "") -> Finding:
    n_counted = int((y != target.ignored).sum())
    return Finding(
        code="ignored_targets",
        title=title,
        evidence=f"{n_counted} of {y.numel()} targets in {len(y)} rows count in the loss"
        + (f"; {proof}" if proof else ""),
        why="An ignored target gives no gradient, so most of the compute on each batch is wasted.",
        fix="Ignore only padding and the prompt.",
        explains=("cannot_overfit",),
        drawing=_rows(target, x, y),
    )


def _swapped_rows(target: Target, x: Tensor, y: Tensor, expected: Tensor, share: float) -> Finding:
    return Finding(
        code="swapped_rows",
        title=f"{share:.0%} of the targets do not belong to their x.",
        evidence="y is neither the next token of its own row nor a shift of it",
        why="If inputs and targets come from different examples, the model can only memorize the pairs.",
        fix="Cut x and y from the same row, and shuffle both with the same permutation.",
        drawing=_rows(target, x, y, expected),
    )
