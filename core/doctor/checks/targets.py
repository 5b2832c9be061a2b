"""Are the targets those that the task defines? Cost: eight batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loss_probe import shifts_targets
from tui_lab.core.doctor.target import Target
from tui_lab.core.doctor.target_rules import UNKNOWN, next_token

STEPS = 8
SHORT_ROW = 4
"""Longer rows have more than one counted target, unless something is wrong."""
MAX_IGNORED = 0.5
"""Fraction of the defined targets that may be ignored."""
AGREEMENT = 0.98
"""Fraction of agreeing targets above which a pattern counts as present."""


def check(target: Target) -> Iterator[Finding]:
    pairs = [target.pair(step) for step in range(STEPS if target.varies else 1)]
    # Batches that are padded to their longest row have different lengths.
    pairs = [pair for pair in pairs if pair[0].shape[1] == pairs[0][0].shape[1]]
    x = torch.cat([pair[0] for pair in pairs])
    y = torch.cat([pair[1] for pair in pairs])
    if _agrees(_shifted(x, 0), y, target.ignored) and shifts_targets(target):
        # As with Hugging Face models: labels are the inputs, and the loss shifts them.
        y = torch.cat([y[:, 1:], torch.full_like(y[:, :1], target.ignored)], dim=1)
    if not (y != target.ignored).any():
        yield _ignored(target, x, y, "Every target is ignored, so there is nothing to learn.")
    elif target.rule is not None and target.rule is not next_token:
        yield from _compare_with_rule(target, x, y, target.rule(x))
    elif target.rule is next_token or _agrees(_next_token_within_rows(x, y, target.ignored), y, target.ignored):
        yield from _compare_with_next_token(target, x, y)
    elif (misplaced := _misplaced(target, x, y, next_token(x))) is not None:
        yield misplaced
    else:
        raise NotJudged("Case.rule is not set, and y is not a shift of x")


def _compare_with_rule(target: Target, x: Tensor, y: Tensor, expected: Tensor) -> Iterator[Finding]:
    known = expected != UNKNOWN
    counted = y != target.ignored
    if bool((expected == y)[known].all()):
        return
    if (misplaced := _misplaced(target, x, y, expected)) is not None:
        yield misplaced
        return
    defined = known & (expected != target.ignored)
    if bool((known & ~defined & counted).any()):
        yield _unmasked(target, x, y, expected)
    elif int((defined & ~counted).sum()) > MAX_IGNORED * int(defined.sum()):
        yield _ignored(target, x, y, f"{int((~counted).sum()) / y.numel():.0%} of the targets are ignored.")
    else:
        yield from _mismatched(target, x, y, expected, defined & counted)


def _compare_with_next_token(target: Target, x: Tensor, y: Tensor) -> Iterator[Finding]:
    """Compare y with the next tokens of x. Any of them may be ignored, such as a prompt or padding."""
    expected = _next_token_within_rows(x, y, target.ignored)
    counted = y != target.ignored
    if y.shape[1] > SHORT_ROW and int(counted.sum()) <= len(y):
        yield _ignored(target, x, y, f"{int((~counted).sum()) / y.numel():.0%} of the targets are ignored.")
    elif _wraps_around(x, y):
        yield _wrapped(target, x, y)
    elif not bool((expected == y)[(expected != UNKNOWN) & counted].all()):
        if (misplaced := _misplaced(target, x, y, next_token(x))) is not None:
            yield misplaced
        else:
            yield from _mismatched(target, x, y, expected, (expected != UNKNOWN) & counted)


def _next_token_within_rows(x: Tensor, y: Tensor, ignored: int) -> Tensor:
    """Return the next tokens, UNKNOWN at each row's last counted target: padding may follow it in x."""
    counted = y != ignored
    last = counted & (counted.flip(1).cumsum(1).flip(1) == 1)
    return next_token(x).masked_fill(last, UNKNOWN)


def _misplaced(target: Target, x: Tensor, y: Tensor, expected: Tensor) -> Finding | None:
    """Return a finding if y is the inputs themselves, or the expected targets of other positions."""
    if _agrees(_shifted(x, 0), y, target.ignored):
        return _copied(target, x, y)
    for by in (1, -1, 2, -2):
        moved = _shifted(expected, by)
        known = moved != UNKNOWN
        if bool(known.any()) and float((moved == y)[known].float().mean()) > AGREEMENT:
            return _wrong_shift(target, x, y, by)
    return None


def _mismatched(target: Target, x: Tensor, y: Tensor, expected: Tensor, counted: Tensor) -> Iterator[Finding]:
    wrong = counted & (expected != y)
    if bool(wrong.any()):
        yield _swapped_rows(target, x, y, expected, float(wrong.sum() / counted.sum()))


def _shifted(x: Tensor, k: int) -> Tensor:
    """Return x[t+k] at t, UNKNOWN beyond the row's ends."""
    moved = x.roll(-k, dims=1)
    edge = slice(x.shape[1] - k, None) if k > 0 else slice(0, -k)
    moved[:, edge] = UNKNOWN
    return moved


def _agrees(expected: Tensor, y: Tensor, ignored: int) -> bool:
    """Return whether nearly every known, counted target is the expected one."""
    known = (expected != UNKNOWN) & (y != ignored)
    return bool(known.any()) and float((expected == y)[known].float().mean()) > AGREEMENT


def _wraps_around(x: Tensor, y: Tensor) -> bool:
    """Return whether each row's last target is its first token, which differs from row to row."""
    firsts = torch.unique(x[:, 0])
    return len(firsts) > SHORT_ROW and x.shape[1] > SHORT_ROW and torch.equal(y[:, -1], x[:, 0])


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
        evidence="y[-1] = x[0] in every row, as torch.roll(x, -1) returns",
        why="One target per row is meaningless, and its loss never falls.",
        fix="Cut rows of T + 1 tokens: x = tokens[:-1], y = tokens[1:].",
        drawing=_rows(target, x[:, -8:], y[:, -8:]),
    )


def _copied(target: Target, x: Tensor, y: Tensor) -> Finding:
    return Finding(
        code="copied_targets",
        title="The targets equal the inputs: y[t] = x[t].",
        evidence="every counted target equals the input at its own position",
        why="The model learns to copy its input: the loss falls to zero, but it cannot predict the next token.",
        fix="Shift by one: x = tokens[:-1], y = tokens[1:].",
        drawing=_rows(target, x, y),
    )


def _wrong_shift(target: Target, x: Tensor, y: Tensor, by: int) -> Finding:
    """by: how many positions too far; negative: short."""
    distance = f"{'one position' if abs(by) == 1 else f'{abs(by)} positions'} {'too far' if by > 0 else 'short'}"
    by_rule = target.rule is not None and target.rule is not next_token
    equation = f"y[t] = expected y[t{by:+d}]" if by_rule else f"y[t] = x[t{by + 1:+d}]"
    return Finding(
        code="shifted_targets",
        title=f"Targets are shifted {distance} ({equation}).",
        evidence=f"y[t] is the target that position t{by:+d} should have",
        why="The model must predict a token without having seen the one before it, so generation skips tokens."
        if by > 0
        else "The model is asked for a token that is already in its input, so it learns to copy.",
        fix="Shift once, in the loader or in the loss: x = tokens[:-1], y = tokens[1:].",
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


def _ignored(target: Target, x: Tensor, y: Tensor, title: str) -> Finding:
    return Finding(
        code="ignored_targets",
        title=title,
        evidence=f"{int((y != target.ignored).sum())} of {y.numel()} targets in {len(y)} rows count in the loss",
        why="An ignored target gives no gradient, so most of the compute on each batch is wasted.",
        fix="Ignore only padding and the prompt.",
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
