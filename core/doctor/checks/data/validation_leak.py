"""Do validation examples occur in the training data?

Cost: that of the target's own comparison; for a script, that of reading the items of its data sets, 1 s at most.
"""

from collections.abc import Iterator, Sequence

from tui_lab.core.doctor.checks.data.shared_items import SharedItems, shared_items
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.observed import SharedRows
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.program.target import Target

MAX_SHARE = 0.05
"""Fraction of common examples that may be chance: short rows repeat in any text."""
MIN_ROWS = 16
"""Rows of a script's validation part, before it is judged."""
MAX_SHARE_OF_SCRIPT = 0.5
"""As MAX_SHARE, for the rows of a script, which may be any."""
WHY = "A validation loss on training data cannot show overfitting, so early stopping never triggers."


def check(target: Target) -> Iterator[Finding]:
    if target.validation is None and target.record is not None:
        yield from _of_script(target.record)
        return
    if target.validation is None:
        raise NotJudged("it compares ids [N, T] of 32 tokens or more, which Case(…, validation=…) gives")
    shared, compared = target.validation()
    if shared > MAX_SHARE * compared:
        yield Finding(
            code="leaked_validation",
            title="Validation examples also occur in the training data.",
            evidence=f"{shared} of {compared} validation examples are training examples",
            why=WHY,
            fix="Split before cutting windows: into contiguous parts, or by a hash of each example.",
        )


def _of_script(record: LoopRecord) -> Iterator[Finding]:
    """Judge the rows that a script evaluates as its validation part, and the data sets that it reads them from."""
    observed = record.observed
    finding = next(_of_rows(observed.shared_rows), None)
    if finding is not None:
        yield finding
        return
    reasons = []
    pairs = [(training, one) for one in observed.validation_loaders for training in observed.training_loaders]
    for training, validation in pairs:
        try:
            shared = shared_items(training, validation)
        except NotJudged as reason:
            reasons.append(str(reason))
            continue
        except Exception as error:
            reasons.append(f"reading items of the data sets again failed: {error}")
            continue
        if shared is not None and shared.n >= MIN_ROWS and shared.n_shared > MAX_SHARE_OF_SCRIPT * shared.n:
            yield _shared_items(shared)
            return
    if not observed.shared_rows and (reasons or not pairs):
        raise NotJudged("; ".join(dict.fromkeys(reasons)) or _unknown(record))


def _unknown(record: LoopRecord) -> str:
    """Return why nothing of a script was compared."""
    if any(update.events_of("evaluation") for update in record.updates) or record.evaluation_rows:
        return (
            "it is not known which of the evaluated rows are for validation, or these rows are too short; "
            "names such as val_loader or split='val' would show it"
        )
    return f"the script evaluated nothing within {len(record.updates)} updates; --updates N and --seconds N set more"


def _of_rows(compared: Sequence[SharedRows]) -> Iterator[Finding]:
    for rows in compared:
        n_shared = rows.n_same + rows.n_near
        if rows.n < MIN_ROWS or rows.is_by_chance or n_shared <= MAX_SHARE_OF_SCRIPT * rows.n:
            continue
        are_windows = rows.n_near > rows.n_same
        yield Finding(
            code="leaked_validation",
            title="Validation windows overlap training windows of the same stream."
            if are_windows
            else "Validation rows are also training rows.",
            evidence=f"{rows.n_same} of {rows.n} validation rows are training rows"
            + (f", and {rows.n_near} others share three quarters of their ids or more with one" if rows.n_near else ""),
            why=WHY,
            fix="Split the stream into contiguous parts first, with a gap of one window, and cut windows in each part."
            if are_windows
            else "Split before anything copies or samples rows, and evaluate rows of the held-out part only.",
            location=rows.line,
        )


def _shared_items(shared: SharedItems) -> Finding:
    return Finding(
        code="leaked_validation",
        title="Validation rows are also training rows.",
        evidence=f"{shared.n_shared} of {shared.n} items of the validation data set are items of the training data "
        f"set: {shared.how}",
        why=WHY,
        fix="Split the data set once, such as with torch.utils.data.random_split, and evaluate the held-out part only.",
    )
