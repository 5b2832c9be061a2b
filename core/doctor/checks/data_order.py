"""Do the steps draw the examples that they say they draw? Cost: sixteen batches."""

from collections.abc import Callable, Iterator

import torch

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Draws, Probe, Subject

STEPS = 16


def check(subject: Subject, probe: Probe | None) -> Iterator[Finding]:
    if not subject.varies:
        raise Skip("one batch was given, no loader")
    pairs = [subject.batch(step) for step in range(STEPS)]
    rows = [{tuple(row) for row in x.tolist()} for x, _ in pairs]
    if subject.pinned:
        seen = set().union(*rows)
        if len(seen) > subject.pinned:
            yield _moving(subject, pairs, f"{len(seen)} different datapoints in {STEPS} steps")
        elif subject.draws is not None and (wrong := _undeclared(subject.draws)):
            yield _constant(subject, pairs, f"{len(seen)} of {subject.pinned} pinned datapoints in {wrong} steps")
        return
    again, _ = subject.batch(0)
    if not torch.equal(again, pairs[0][0]) and subject.draws is not None:
        yield _moving(subject, pairs, "the batch of one step, asked for twice, differs")
    elif len(set().union(*rows)) == 1 and len(pairs) * len(pairs[0][0]) > 2:
        yield _constant(subject, pairs, "one single example")
    elif all(sorted(x.tolist()) == sorted(pairs[0][0].tolist()) for x, _ in pairs):
        yield _constant(subject, pairs, f"the same {len(rows[0])} examples")
    elif subject.draws is not None and (wrong := _undeclared(subject.draws)):
        yield _moving(subject, pairs, f"{wrong} of {STEPS} steps draw other examples than their order says")


def _undeclared(draws: Callable[[int], Draws]) -> int:
    """How many steps draw other examples than their order says."""
    found = [draws(step) for step in range(STEPS)]
    return sum(not bool((draw.drawn == draw.declared).all()) for draw in found)


def _side_by_side(subject: Subject, pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[str, ...]:
    return tuple(
        f"step {step}  x[0] " + " ".join(subject.show(int(i))[:9] for i in x[0, :10])
        for step, (x, _) in enumerate(pairs[:4])
    )


def _moving(subject: Subject, pairs: list[tuple[torch.Tensor, torch.Tensor]], evidence: str) -> Finding:
    meant = f"{subject.pinned} should be repeated, but " if subject.pinned else ""
    return Finding(
        "shuffle_every_step",
        f"The loader shuffles at every step: {meant}other examples come each time.",
        evidence,
        "What cannot be repeated cannot be overfitted, so the first test of a new model says nothing; and in an epoch "
        "some examples come twice and others never.",
        "Shuffle once an epoch, with a seed, outside the step; pin the datapoint before the loop.",
        drawing=_side_by_side(subject, pairs),
    )


def _constant(subject: Subject, pairs: list[tuple[torch.Tensor, torch.Tensor]], what: str) -> Finding:
    return Finding(
        "constant_batch",
        f"Every step draws {what}.",
        f"{STEPS} steps compared; {subject.pinned or 'none'} are pinned",
        "The training loss goes to nothing while the model knows nothing else: it looks like success.",
        "Advance the loader: make its iterator outside the loop, and let each step take the next batch.",
        drawing=_side_by_side(subject, pairs),
    )
