"""Does the loop draw other rows in each update, and mixed classes? Cost: up to 256 items are read without a batch."""

from collections.abc import Iterator

from tui_lab.core.doctor.checks.data.class_order import sorted_classes
from tui_lab.core.doctor.checks.data.items_by_index import depend_on_index
from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.observed import LoaderUse
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
    if target.pinned:
        return
    if all(set(update.rows) == trained for update in updates):
        n = len(trained)
        yield _constant_batch(record, trained, "row" if n == 1 else f"{n} rows", len(updates))
        return
    repeated = record.observed.repeated
    if repeated is not None and repeated.n_updates >= MIN_UPDATES and depend_on_index(repeated):
        items = f"{len(repeated.indices)} items of the data set"
        yield _constant_batch(record, trained, items, repeated.n_updates, differ=True)


def _constant_batch(record: LoopRecord, trained: set[int], rows: str, n: int, *, differ: bool = False) -> Finding:
    """Return the finding on n updates with the same rows. differ: whether something of each is drawn at random."""
    updates = [update for update in record.updates if update.rows]
    # An iterator of several batches that is made for each update always begins with the first one.
    is_restarted = all(update.restarted for update in updates[1:])
    line = updates[-1].restarted
    others = _others(record, trained)
    # A test of memorizing evaluates nothing else.
    is_certain = is_restarted or (bool(others) and bool(record.evaluation_rows - trained))
    return Finding(
        code="constant_batch",
        title="Every update trains on the first batch again: a new iterator of the DataLoader is made for each of them."
        if is_restarted
        else f"Every update trains on the same {rows}.",
        evidence=f"the same {rows} in {n} updates"
        + (", of which only what the data set draws at random differs" if differ else "")
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
    loaders = record.observed.training_loaders
    n_batches = max((use.n_batches for use in loaders if _has_more_items(use, len(trained))), default=0)
    return f"its DataLoader has {n_batches:,} batches" if n_batches > 1 else ""


def _has_more_items(use: LoaderUse, n: int) -> bool:
    """Return whether a data set has more than n items, or no length: an update may read all of them in parts."""
    try:
        return len(use.dataset) > n
    except TypeError:
        return True
