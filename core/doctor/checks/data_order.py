"""Do the steps draw the examples that they should? Cost: sixteen batches."""

from collections.abc import Callable, Iterator, Sequence

import torch

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.target import Draws, Pair, Target

STEPS = 16


def check(target: Target) -> Iterator[Finding]:
    if not target.varies:
        raise NotJudged("one batch was given, not a loader")
    pairs = [target.pair(step) for step in range(STEPS)]
    rows = [{tuple(row) for row in x.tolist()} for x, _ in pairs]
    if target.pinned:
        yield from _pinned(target, target.pinned, pairs, len(set().union(*rows)))
        return
    again, _ = target.pair(0)
    if not torch.equal(again, pairs[0][0]) and target.draws is not None:
        yield _moving(target, pairs, "", "step 0 returns different examples when it is called twice")
    elif len(set().union(*rows)) == 1 and len(pairs) * len(pairs[0][0]) > 2:
        yield _constant(target, pairs, "the same single example")
    elif all(sorted(x.tolist()) == sorted(pairs[0][0].tolist()) for x, _ in pairs):
        yield _constant(target, pairs, f"the same {len(rows[0])} examples")
    elif target.draws is not None and (wrong := _undeclared(target.draws)):
        yield _moving(target, pairs, "", f"{wrong} of {STEPS} steps draw examples that don't match the epoch's order")


def _pinned(target: Target, pinned: int, pairs: Sequence[Pair], different: int) -> Iterator[Finding]:
    """pinned: how many examples should be repeated. different: how many appeared."""
    if different > pinned:
        examples = f"{pinned} example{'s' if pinned > 1 else ''}"
        detail = f": you pinned {examples}, but {different} appeared in {STEPS} steps"
        yield _moving(target, pairs, detail, f"{different} different examples in {STEPS} steps; pinned: {pinned}")
    elif target.draws is not None and _undeclared(target.draws):
        yield _constant(target, pairs, f"only {different} of the {pinned} pinned examples")


def _undeclared(draws: Callable[[int], Draws]) -> int:
    """Return how many steps draw examples that don't match their order."""
    steps = [draws(step) for step in range(STEPS)]
    return sum(not bool((step.drawn == step.declared).all()) for step in steps)


def _first_rows(target: Target, pairs: Sequence[Pair]) -> tuple[str, ...]:
    return tuple(
        f"step {step}  x[0] " + " ".join(target.show(int(i))[:9] for i in x[0, :10])
        for step, (x, _) in enumerate(pairs[:4])
    )


def _moving(target: Target, pairs: Sequence[Pair], detail: str, evidence: str) -> Finding:
    return Finding(
        code="shuffle_every_step",
        title=f"The loader reshuffles every step{detail}.",
        evidence=evidence,
        why="An example that is not repeated cannot be overfitted, so the first test of a new model fails. Within an "
        "epoch, some examples appear twice, others not at all.",
        fix="Shuffle once per epoch, with a seed, outside the step. Choose the pinned examples before the loop.",
        drawing=_first_rows(target, pairs),
    )


def _constant(target: Target, pairs: Sequence[Pair], examples: str) -> Finding:
    return Finding(
        code="constant_batch",
        title=f"Every step draws {examples}.",
        evidence=f"{STEPS} steps compared; pinned: {target.pinned or 'none'}",
        why="The training loss falls to zero while the model learns nothing else, which looks like success.",
        fix="Create the loader's iterator outside the loop, and take the next batch at each step.",
        drawing=_first_rows(target, pairs),
    )
