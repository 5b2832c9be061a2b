"""Do the steps draw the examples that they should? Cost: sixteen batches."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding, Kind, NotJudged
from tui_lab.core.doctor.program.batch import Batch, n_rows
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import Draws, Target
from tui_lab.util.plural import counted

STEPS = 16
WHOLE_DATA_ROWS = 64
"""Rows of a batch that may be the whole of a small set of data."""

Rows = list[tuple[bytes, ...]]
"""The examples of a batch, each as the bytes of its inputs."""


def check(target: Target) -> Iterator[Finding]:
    if not target.varies:
        raise NotJudged("one batch was given, not a loader")
    batches = [target.batch(step) for step in range(STEPS)]
    steps = [_rows(target, batch) for batch in batches]
    n_different = len(set().union(*steps))
    if target.pinned:
        yield from _judge_pinned(target, target.pinned, batches, n_different)
        return
    if target.draws is not None and _rows(target, target.batch(0)) != steps[0]:
        yield _moving(target, batches, "", "the first batch has other examples when it is drawn a second time")
    elif n_different == 1 and sum(map(len, steps)) > 2:
        yield _constant(target, batches, "the same single example")
    elif all(sorted(rows) == sorted(steps[0]) for rows in steps):
        n_examples = len(set(steps[0]))
        # Small data are often trained on as a whole.
        is_whole = n_examples > 1 and (target.tokens is None or n_rows(batches[0]) >= WHOLE_DATA_ROWS)
        yield _constant(target, batches, f"the same {n_examples} examples", "hint" if is_whole else "finding")
    elif target.draws is not None and (n_steps := _n_undeclared(target.draws)):
        evidence = f"{n_steps} of {STEPS} steps draw examples that don't match the epoch's order"
        yield _moving(target, batches, "", evidence)


def _rows(target: Target, batch: Batch) -> Rows:
    """Return the examples of a batch: their ids, or all of their values."""
    if target.tokens is not None:
        return [(row.numpy().tobytes(),) for row in target.tokens.x(batch).cpu()]
    tensors = [t for t in tensors_of(batch) if t.dim() and len(t) == n_rows(batch)]
    return [tuple(map(_bytes, values)) for values in zip(*tensors, strict=True)]


def _bytes(value: Tensor) -> bytes:
    """Return the values as bytes; those of bfloat16, which NumPy does not have, as float32."""
    value = value.detach().cpu().contiguous()
    return (value.float() if value.dtype is torch.bfloat16 else value).numpy().tobytes()


def _judge_pinned(target: Target, pinned: int, batches: Sequence[Batch], n_different: int) -> Iterator[Finding]:
    """Judge a loop that should repeat `pinned` examples, of which `n_different` appeared."""
    if n_different > pinned:
        examples = counted(pinned, "example")
        detail = f": you pinned {examples}, but {n_different} appeared in {STEPS} steps"
        yield _moving(target, batches, detail, f"{n_different} different examples in {STEPS} steps; pinned: {pinned}")
    elif target.draws is not None and _n_undeclared(target.draws):
        yield _constant(target, batches, f"only {n_different} of the {pinned} pinned examples")


def _n_undeclared(draws: Callable[[int], Draws]) -> int:
    """Return how many steps draw examples that don't match their order."""
    steps = [draws(step) for step in range(STEPS)]
    return sum(not bool((step.drawn == step.declared).all()) for step in steps)


def _first_rows(target: Target, batches: Sequence[Batch]) -> tuple[str, ...]:
    """Draw the first row of the first steps."""
    if target.tokens is None:
        return ()
    ids = [target.tokens.x(batch) for batch in batches[:4]]
    return tuple(
        f"batch {number}  x[0] " + " ".join(target.show(int(i))[:9] for i in x[0, :10])
        for number, x in enumerate(ids, 1)
    )


def _moving(target: Target, batches: Sequence[Batch], detail: str, evidence: str) -> Finding:
    """detail: of the title, after "every step"."""
    return Finding(
        code="shuffle_every_step",
        title=f"The loader reshuffles every step{detail}.",
        evidence=evidence,
        why="An example that is not repeated cannot be overfitted, so the first test of a new model fails. Within an "
        "epoch, some examples appear twice, others not at all.",
        fix="Shuffle once per epoch, with a seed, outside the step. Choose the pinned examples before the loop.",
        drawing=_first_rows(target, batches),
    )


def _constant(target: Target, batches: Sequence[Batch], examples: str, kind: Kind = "finding") -> Finding:
    return Finding(
        code="constant_batch",
        kind=kind,
        title=f"Every step draws {examples}.",
        evidence=f"{STEPS} steps compared; pinned: {target.pinned or 'none'}",
        why="The training loss falls to zero while the model learns nothing else, which looks like success.",
        fix="Create the loader's iterator outside the loop, and take the next batch at each step.",
        drawing=_first_rows(target, batches),
    )
