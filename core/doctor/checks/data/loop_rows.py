"""Does the loop draw other rows in each update, and mixed classes? Cost: up to 256 items are read without a batch."""

from collections.abc import Iterator

from tui_lab.core.doctor.checks.data.class_order import sorted_classes
from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.reading import named_at, require_updates
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 5


def check(target: Target) -> Iterator[Finding]:
    record = target.record
    if record is None:
        raise NotApplicable("the batches are given, not drawn by a loop of the user")
    yield from sorted_classes(record)
    updates = [update for update in record.updates if update.rows]
    require_updates(updates, MIN_UPDATES, "with rows")
    trained = set(updates[0].rows)
    if any(set(update.rows) != trained for update in updates) or target.pinned:
        return
    n = len(trained)
    rows = "row" if n == 1 else f"{n} rows"
    # An iterator of several batches that is made for each update always begins with the first one.
    is_restarted = all(update.restarted for update in updates[1:])
    line = updates[-1].restarted
    others = _others(record, trained)
    # A test of memorizing evaluates nothing else.
    is_certain = is_restarted or (bool(others) and bool(record.evaluation_rows - trained))
    yield Finding(
        code="constant_batch",
        title="Every update trains on the first batch again: a new iterator of the DataLoader is made for each of them."
        if is_restarted
        else f"Every update trains on the same {rows}.",
        evidence=f"the same {rows} in {len(updates)} updates"
        + (f"; next(iter(…)){named_at(line)} in each of them" if is_restarted else "")
        + (f"; {others}" if others else ""),
        why="The training loss falls to zero while the model learns nothing else, which looks like success.",
        fix="Create the loader's iterator outside the loop, and take the next batch at each step."
        if is_restarted
        else "If these are not all the data, and this is not a test of memorizing, draw the next batch at each step.",
        location=line,
        kind="finding" if is_certain else "hint",
    )


def _others(record: LoopRecord, trained: set[int]) -> str:
    """Return what shows that the loop has at least as many other rows to train on, or ""."""
    n_evaluated = len(record.training_part_rows - trained)
    if n_evaluated >= len(trained):
        return f"the loop evaluates {n_evaluated} other rows of its training part"
    if unused := record.observed.unused:
        return f"{unused.name} holds {unused.n_batches:,} more batches of this size"
    n_batches = max((use.n_batches for use in record.observed.training_loaders), default=0)
    return f"its DataLoader has {n_batches:,} batches" if n_batches > 1 else ""
