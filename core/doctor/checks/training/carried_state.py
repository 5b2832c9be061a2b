"""Is a recurrent state carried between batches of unrelated rows? Cost: none beyond the record of the loop."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.observed import CarriedState
from tui_lab.core.doctor.program.target import Target

MIN_CALLS = 2
CONTINUES = 0.9
"""Share of the rows that begin with the last target of the row before, from which batches continue each other."""
UNRELATED = 0.5
"""The same, below which they do not: unrelated rows share 1 of V ids, and no more than 0.2 for text of letters."""


def check(target: Target) -> Iterator[Finding]:
    # A rehearsal would show the errors of the model here, before the check of the forward pass names them.
    record = target.record
    if record is None:
        raise NotApplicable("the loop itself was not recorded")
    carried = [state for state in record.observed.carried if state.n >= MIN_CALLS]
    if not carried:
        raise NotApplicable("no recurrent state is carried from one update to the next")
    state = max(carried, key=lambda state: state.n_shuffled)
    if state.continuity is not None and state.continuity >= CONTINUES:
        return
    yield _finding(state)


def _finding(state: CarriedState) -> Finding:
    is_shuffled = state.n_shuffled >= MIN_CALLS
    is_unrelated = state.continuity is not None and state.continuity < UNRELATED
    is_shown = is_unrelated or (is_shuffled and state.continuity is None)
    reasons = [f"in {state.n} updates, {state.module} starts with a state {list(state.shape)} of an earlier update"]
    if is_shuffled:
        reasons.append(f"{state.n_shuffled} times a DataLoader with a random order gave another batch between")
    if state.continuity is not None:
        reasons.append(f"{state.continuity:.0%} of the rows begin with the token that ended the same row before")
    return Finding(
        code="state_carried",
        kind="finding" if is_shown else "hint",
        title="The recurrent state is carried from batch to batch, although the batches are unrelated rows."
        if is_shown
        else "The recurrent state is carried from batch to batch; that is right only if each row continues the same "
        "row of the batch before.",
        evidence="; ".join(reasons),
        why="Each row starts from what the model remembers of another example.",
        fix="Start each batch from a zero state: set it to None before the call. Carry it only over the parts of one "
        "sequence, in their order.",
        location=state.line,
        explains=("nondeterministic", "batch_mixing") if is_shown else (),
    )
