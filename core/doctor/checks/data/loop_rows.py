"""Does the loop draw other rows in each update? Cost: none beyond the record of the loop."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.reading import named_at, require_updates
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 5


def check(target: Target) -> Iterator[Finding]:
    record = target.record
    if record is None:
        raise NotApplicable("the batches are given, not drawn by a loop of the user")
    updates = [update for update in record.updates if update.rows]
    require_updates(updates, MIN_UPDATES, "with rows")
    if any(set(update.rows) != set(updates[0].rows) for update in updates) or target.pinned:
        return
    n = len(set(updates[0].rows))
    rows = "row" if n == 1 else f"{n} rows"
    # An iterator of several batches that is made for each update always begins with the first one.
    is_restarted = all(update.restarted for update in updates[1:])
    line = updates[-1].restarted
    n_others = len(record.training_part_rows - set(updates[0].rows))
    yield Finding(
        code="constant_batch",
        title="Every update trains on the first batch again: a new iterator of the DataLoader is made for each of them."
        if is_restarted
        else f"Every update trains on the same {rows}.",
        evidence=f"the same {rows} in {len(updates)} updates"
        + (f"; next(iter(…)){named_at(line)} in each of them" if is_restarted else "")
        + (f"; the loop evaluates {n_others} other rows of its training part" if n_others else ""),
        why="The training loss falls to zero while the model learns nothing else, which looks like success.",
        fix="Create the loader's iterator outside the loop, and take the next batch at each step."
        if is_restarted
        else "If these are not all the data, and this is not a test of memorizing, draw the next batch at each step.",
        location=line,
        kind="finding" if is_restarted or n_others >= n else "hint",
    )
