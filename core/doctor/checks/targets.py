"""Are the targets the ones that the task means? Cost: eight batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tui_lab.core.doctor.checks.loss import shifts_itself
from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject

UNKNOWN = -(2**40)
"""In what a rule gives: a target that x alone does not tell."""
STEPS = 8
FEW = 4
"""Rows longer than this have more than one target that counts, unless something went wrong."""
LOST = 0.5
"""Share of the meant targets that may be ignored before it is said."""
SURE = 0.98
"""Share of agreeing targets from which a pattern is taken to be one."""


def next_token(x: Tensor) -> Tensor:
    """The rule of a language model: y[t] = x[t+1]; the last target is not in x."""
    return torch.cat([x[:, 1:], torch.full_like(x[:, :1], UNKNOWN)], dim=1)


def check(subject: Subject, probe: Probe | None) -> Iterator[Finding]:
    pairs = [subject.batch(step) for step in range(STEPS if subject.varies else 1)]
    x, y = torch.cat([p[0] for p in pairs]), torch.cat([p[1] for p in pairs])
    if _agrees(_shifted(x, 0), y, subject.ignored) and shifts_itself(subject):
        # Hugging Face's way: labels are the inputs, and the loss shifts them.
        y = torch.cat([y[:, 1:], torch.full_like(y[:, :1], subject.ignored)], dim=1)
    if not (y != subject.ignored).any():
        yield _ignored(subject, x, y, "Every target is ignored: there is nothing to learn from.")
    elif subject.rule is not None and subject.rule is not next_token:
        yield from _against(subject, x, y, subject.rule(x))
    elif subject.rule is next_token or _agrees(_ends_unknown(x, y, subject.ignored), y, subject.ignored):
        yield from _against_next_token(subject, x, y)
    else:
        yield from _without_rule(subject, x, y)


def _against(subject: Subject, x: Tensor, y: Tensor, meant: Tensor) -> Iterator[Finding]:
    """y against what the task's own rule means."""
    known, kept = meant != UNKNOWN, y != subject.ignored
    if bool((meant == y)[known].all()):
        return
    if (shift := _misplaced(subject, x, y, meant)) is not None:
        yield shift
        return
    counts = known & (meant != subject.ignored)
    if bool((known & ~counts & kept).any()):
        yield _unmasked(subject, x, y, meant)
    elif int((counts & ~kept).sum()) > LOST * int(counts.sum()):
        yield _ignored(subject, x, y, f"{int((~kept).sum()) / y.numel():.0%} of the targets are ignored.")
    else:
        yield from _strange(subject, x, y, meant, counts & kept)


def _against_next_token(subject: Subject, x: Tensor, y: Tensor) -> Iterator[Finding]:
    """y against the next tokens of x. Any of them may be ignored: a prompt, or padding."""
    meant, kept = _ends_unknown(x, y, subject.ignored), y != subject.ignored
    if y.shape[1] > FEW and int(kept.sum()) <= len(y):
        yield _ignored(subject, x, y, f"{int((~kept).sum()) / y.numel():.0%} of the targets are ignored.")
    elif _wraps_round(x, y):
        yield _wrapped(subject, x, y)
    elif not bool((meant == y)[(meant != UNKNOWN) & kept].all()):
        if (shift := _misplaced(subject, x, y, next_token(x))) is not None:
            yield shift
        else:
            yield from _strange(subject, x, y, meant, (meant != UNKNOWN) & kept)


def _without_rule(subject: Subject, x: Tensor, y: Tensor) -> Iterator[Finding]:
    if (shift := _misplaced(subject, x, y, next_token(x))) is None:
        raise Skip("no rule is known that gives y from x (Case.rule), and y is no shift of x")
    yield shift


def _ends_unknown(x: Tensor, y: Tensor, ignored: int) -> Tensor:
    """The next tokens, unknown at each row's last target that counts: what follows it in x may be padding."""
    meant, kept = next_token(x), y != ignored
    last = kept & (kept.flip(1).cumsum(1).flip(1) == 1)
    return meant.masked_fill(last, UNKNOWN)


def _misplaced(subject: Subject, x: Tensor, y: Tensor, meant: Tensor) -> Finding | None:
    """The inputs themselves, or what is meant some positions away."""
    if _agrees(_shifted(x, 0), y, subject.ignored):
        return _copied(subject, x, y)
    for by in (1, -1, 2, -2):
        moved = _shifted(meant, by)
        known = moved != UNKNOWN
        if bool(known.any()) and float((moved == y)[known].float().mean()) > SURE:
            return _wrong_shift(subject, x, y, by)
    return None


def _strange(subject: Subject, x: Tensor, y: Tensor, meant: Tensor, counts: Tensor) -> Iterator[Finding]:
    wrong = counts & (meant != y)
    if bool(wrong.any()):
        yield _foreign(subject, x, y, meant, float(wrong.sum() / counts.sum()))


def _shifted(x: Tensor, k: int) -> Tensor:
    """x[t+k] at t, UNKNOWN beyond the row's ends."""
    moved = x.roll(-k, dims=1)
    edge = slice(x.shape[1] - k, None) if k > 0 else slice(0, -k)
    moved[:, edge] = UNKNOWN
    return moved


def _agrees(meant: Tensor, y: Tensor, ignored: int) -> bool:
    """Whether nearly every target that is known and counts is the one that is meant."""
    known = (meant != UNKNOWN) & (y != ignored)
    return bool(known.any()) and float((meant == y)[known].float().mean()) > SURE


def _rows(subject: Subject, x: Tensor, y: Tensor, meant: Tensor | None = None, n: int = 12) -> tuple[str, ...]:
    """x over y, and what y is meant to be, in columns."""
    rows = [("x", x[0, :n]), ("y", y[0, :n]), *([] if meant is None else [("meant", meant[0, :n])])]
    words = [
        [("–" if int(i) == subject.ignored else "?" if int(i) == UNKNOWN else subject.show(int(i)))[:9] for i in row]
        for _, row in rows
    ]
    width = max(len(word) for line in words for word in line)
    return tuple(
        f"{name:<6}" + " ".join(f"{word:<{width}}" for word in line)
        for (name, _), line in zip(rows, words, strict=True)
    )


def _wraps_round(x: Tensor, y: Tensor) -> bool:
    """Whether each row's last target is its first token, which differs from row to row."""
    firsts = torch.unique(x[:, 0])
    return len(firsts) > FEW and x.shape[1] > FEW and torch.equal(y[:, -1], x[:, 0])


def _wrapped(subject: Subject, x: Tensor, y: Tensor) -> Finding:
    return Finding(
        "shifted_targets",
        "The shift wraps round: each row's last target is its first token.",
        "y[-1] = x[0] in every row, as torch.roll(x, -1) gives",
        "One target in each row is nonsense, and its loss never falls.",
        "Cut rows of T + 1 tokens: x = tokens[:-1], y = tokens[1:].",
        drawing=_rows(subject, x[:, -8:], y[:, -8:]),
    )


def _copied(subject: Subject, x: Tensor, y: Tensor) -> Finding:
    return Finding(
        "copied_targets",
        "The targets are the inputs: y[t] = x[t].",
        "every target that is not ignored equals the input at its own position",
        "The model learns to repeat what it is shown; the loss goes to nothing and it can say nothing new.",
        "Shift by one: x = tokens[:-1], y = tokens[1:].",
        drawing=_rows(subject, x, y),
    )


def _wrong_shift(subject: Subject, x: Tensor, y: Tensor, by: int) -> Finding:
    """`by`: how many positions too far."""
    far = f"{abs(by)} position{'s' if abs(by) > 1 else ''} too {'far' if by > 0 else 'near'}"
    return Finding(
        "shifted_targets",
        f"The targets are off: {far}.",
        f"y[t] is what is meant for y[t{by:+d}]",
        "The model is asked for a token before it has seen the one in between; generation then skips tokens.",
        "x = tokens[:-1], y = tokens[1:]; shift once, in the loader or in the loss.",
        drawing=_rows(subject, x, y, subject.rule(x) if subject.rule else next_token(x)),
    )


def _unmasked(subject: Subject, x: Tensor, y: Tensor, meant: Tensor) -> Finding:
    share = float(((meant == subject.ignored) & (y != subject.ignored)).float().mean())
    return Finding(
        "unmasked_targets",
        f"{share:.0%} of the targets should be ignored and are not.",
        "positions whose target nobody can know from what stands before them count in the loss",
        "Their loss never falls below chance, which hides how well the rest is learned.",
        f"Set y to {subject.ignored} at the prompt, so that the loss leaves it out.",
        drawing=_rows(subject, x, y, meant),
    )


def _ignored(subject: Subject, x: Tensor, y: Tensor, verdict: str) -> Finding:
    return Finding(
        "ignored_targets",
        verdict,
        f"{int((y != subject.ignored).sum())} of {y.numel()} targets of {len(y)} rows count",
        "What is ignored gives no gradient: most of each batch is computed for nothing.",
        "Ignore only what cannot be known: padding, and a prompt that is given.",
        drawing=_rows(subject, x, y),
    )


def _foreign(subject: Subject, x: Tensor, y: Tensor, meant: Tensor, share: float) -> Finding:
    return Finding(
        "swapped_rows",
        f"{share:.0%} of the targets do not belong to their x.",
        "y is neither the next token of its own row nor any shift of it",
        "Inputs and targets of different examples can only be learned by heart.",
        "Cut x and y from one row, and shuffle both by the same permutation.",
        drawing=_rows(subject, x, y, meant),
    )
