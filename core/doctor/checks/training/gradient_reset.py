"""Are the gradients cleared between updates, as often as they should be? Cost: none beyond the record of the loop."""

from collections.abc import Iterator, Sequence

from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.loop.reading import line_of, named_at, require_updates, some
from tui_lab.core.doctor.loop.record import LoopRecord, UpdateRecord
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 3
"""Updates in which a habit must show; the first one begins with whatever was there before."""
EXPLAINS: tuple[FindingCode, ...] = ("lr_too_high", "cannot_overfit")


def check(target: Target) -> Iterator[Finding]:
    record = target.loop
    updates = [update for update in record.updates if update.losses]
    require_updates(updates, MIN_UPDATES, "with a backward call")
    if record.never_cleared:
        yield _no_zero_grad(target, record, updates)
    elif restarting(updates):
        yield _cleared_between_backwards(updates)


def restarting(updates: Sequence[UpdateRecord]) -> bool:
    """Return whether each update calls backward several times in one line, and clears all gradients in between.

    Adversarial training and sharpness-aware steps do so on the same rows or in different lines.
    """
    return all(
        not update.searches
        and update.restarts == len(update.losses) - 1 > 0
        and len({event.line for event in update.events_of("backward")}) == 1
        and len(set(update.rows)) > len(update.rows) // len(update.losses)
        and update.received > 0
        for update in updates
    )


def _no_zero_grad(target: Target, record: LoopRecord, updates: Sequence[UpdateRecord]) -> Finding:
    n_trainable = sum(p.requires_grad for p in target.model.parameters())
    names = record.never_cleared
    which = "" if len(names) >= n_trainable else f"of {len(names)} of {n_trainable} parameters "
    growing = ", ".join(f"{update.leftover:.3g}" for update in updates[:4])
    # What the first update cleared may come from before the loop.
    clears = [event.line for update in updates[1:] for event in update.events_of("zero_grad")]
    once = [event.line for event in updates[0].events_of("zero_grad")]
    fix = "Call optimizer.zero_grad() once per step, before backward()."
    if record.moves_by_hand:
        fix = "Clear them in every step, after the update: p.grad = None for each parameter, or model.zero_grad()."
    if clears:
        fix = f"zero_grad(){named_at(clears[0])} does not reach these parameters: clear those of their own optimizer."
    elif once:
        fix = f"zero_grad(){named_at(once[0])} is called only once: call it in every step, after step()."
    return Finding(
        code="no_zero_grad",
        title=f"The gradients {which}are never cleared, so they add up over the steps.",
        evidence=f"before backward(), each update still has the gradients of the one before, of norm {growing} …: "
        + some(names),
        why="Each step follows the sum of all earlier gradients, most of them computed at old weights.",
        fix=fix,
        location=line_of(updates[-1], "backward"),
        explains=EXPLAINS,
    )


def _cleared_between_backwards(updates: Sequence[UpdateRecord]) -> Finding:
    n = len(updates[-1].losses)
    return Finding(
        code="cleared_between_backwards",
        title=f"zero_grad() is called before each of the {n} backward calls of a step, so only the last one counts.",
        evidence=f"in each of {len(updates)} updates, {n} backward calls in the same line, and no gradient is left of "
        "the one before",
        why=f"The step follows one micro-batch of {n}; the work for the others is thrown away.",
        fix="Call zero_grad() once per step: before the loop over the micro-batches, or after step().",
        location=line_of(updates[-1], "zero_grad"),
        explains=EXPLAINS,
    )
