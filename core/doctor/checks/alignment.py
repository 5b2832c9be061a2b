"""Are the targets the ones that the task means? Cost: eight batches."""

from collections.abc import Iterator

import torch
from torch import Tensor

from core.doctor.findings import Finding, Skip
from core.doctor.subject import Probe, Subject

UNKNOWN = -(2**40)
"""In what a rule gives: a target that x alone does not tell."""
STEPS = 8
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
    rule = subject.rule or (next_token if _agreement(next_token(x), y, subject.ignored) > SURE else None)
    kept = y != subject.ignored
    if not kept.any():
        yield _ignored(subject, x, y, "Every target is ignored: there is nothing to learn from.")
        return
    if rule is None:
        if _agreement(_shifted(x, 0), y, subject.ignored) > SURE:
            yield _copied(subject, x, y)
        elif _agreement(_shifted(x, 2), y, subject.ignored) > SURE:
            yield _wrong_shift(subject, x, y, 1)
        else:
            raise Skip("no rule is known that gives y from x (Case.rule), and y is no shift of x")
        return
    meant = rule(x)
    known = meant != UNKNOWN
    if bool((meant == y)[known].all()):
        return
    if _agreement(_shifted(x, 0), y, subject.ignored) > SURE:
        yield _copied(subject, x, y)
        return
    for by in (1, -1, 2):
        moved = _shifted(meant, by)
        if float((moved == y)[moved != UNKNOWN].float().mean()) > SURE:
            yield _wrong_shift(subject, x, y, by)
            return
    means_one = known & (meant != subject.ignored)
    if bool((known & ~means_one & kept).any()):
        yield _unmasked(subject, x, y, meant)
    elif int((means_one & ~kept).sum()) > LOST * int(means_one.sum()):
        yield _ignored(subject, x, y, f"{int((~kept).sum()) / y.numel():.0%} of the targets are ignored.")
    elif bool((means_one & kept & (meant != y)).any()):
        yield _foreign(subject, x, y, meant, float((means_one & kept & (meant != y)).sum() / (means_one & kept).sum()))


def _shifted(x: Tensor, k: int) -> Tensor:
    """x[t+k] at t, UNKNOWN beyond the row's ends."""
    moved = x.roll(-k, dims=1)
    edge = slice(x.shape[1] - k, None) if k > 0 else slice(0, -k)
    moved[:, edge] = UNKNOWN
    return moved


def _agreement(meant: Tensor, y: Tensor, ignored: int) -> float:
    known = (meant != UNKNOWN) & (y != ignored)
    return float((meant == y)[known].float().mean()) if int(known.sum()) else 0.0


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
