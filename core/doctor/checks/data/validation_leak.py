"""Do validation examples occur in the training data?

Cost: that of the target's own comparison; for a script, that of reading the items of its data sets, 1 s at most.
"""

import math
from collections.abc import Iterator, Sequence

from tui_lab.core.doctor.checks.data.shared_items import SharedItems, shared_items
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.observed import SharedRows
from tui_lab.core.doctor.loop.reading import NO_UPDATE
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.loop.shared_rows import CHUNK, MIN_IDS
from tui_lab.core.doctor.program.target import Target

MAX_SHARE = 0.05
"""Fraction of common examples that may be chance: short rows repeat in any text."""
MIN_ROWS = 16
"""Rows of a script's validation part, before it is judged."""
MAX_SHARE_OF_SCRIPT = 0.5
"""As MAX_SHARE, for the rows of a script, which may be any."""
MIN_SHARED = 9
"""Shared windows that may be chance, however few training windows overlap each other."""
MAX_SHARE_OF_EXPECTED = 0.75
"""Of the windows that would be shared if all were from the same stream."""
MAX_MISSED = 0.05
"""Probability of so few shared rows with a leak, below which there is none."""
WHY = "A validation loss on training data cannot show overfitting, so early stopping never triggers."


def check(target: Target) -> Iterator[Finding]:
    if target.validation is None and target.record is not None:
        tokens = target.tokens
        yield from _of_script(target.record, n_ids=0 if tokens is None else target.probe.x.shape[1])
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


def _of_script(record: LoopRecord, n_ids: int = 0) -> Iterator[Finding]:
    """Judge the rows that a script evaluates as its validation part, and the data sets that it reads them from.

    n_ids: T of its ids; 0: it is unknown.
    """
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
    is_judged = any(_excludes_leak(rows) for rows in observed.shared_rows) or len(reasons) < len(pairs)
    if not is_judged:
        reasons += [_too_little(rows) for rows in observed.shared_rows]
        raise NotJudged("; ".join(dict.fromkeys(reasons)) or _unknown(record, n_ids))


def _excludes_leak(rows: SharedRows) -> bool:
    """Return whether so few shared rows would be improbable if all validation rows came from the training data.

    Then validation rows share as often as training rows: Fisher's exact test (hypergeometric). The training rows are
    compared with half as many, so that the test is on the safe side.
    """
    if rows.n < MIN_ROWS or rows.is_by_chance:
        return False
    n = rows.n + rows.n_halved
    n_shared = rows.n_shared + rows.n_shared_halved
    as_few = sum(math.comb(n_shared, k) * math.comb(n - n_shared, rows.n - k) for k in range(rows.n_shared + 1))
    return as_few / math.comb(n, rows.n) < MAX_MISSED


def _too_little(rows: SharedRows) -> str:
    """Return why rows do not tell whether there is a leak."""
    compared = f"{rows.n} validation rows were compared with {rows.n_trained} different training rows"
    if rows.n_trained < CHUNK:
        return f"{compared}, fewer than {CHUNK}"
    if rows.is_by_chance:
        return f"{compared}, and rows like these repeat often, so that an equal row shows no leak"
    if rows.n < MIN_ROWS:
        return f"{compared}, fewer than {MIN_ROWS}"
    return (
        f"{compared}: {rows.n_shared} of them share three quarters of their values or more with one, and about "
        f"{rows.n_expected:.0f} would if all came from the training data, too few to tell; --updates N compares more"
    )


def _unknown(record: LoopRecord, n_ids: int) -> str:
    """Return why nothing of a script was compared. n_ids: T of its ids; 0: it is unknown."""
    if not record.updates:
        return NO_UPDATE
    evaluations = [event for update in record.updates for event in update.events_of("evaluation")]
    if not evaluations and not record.evaluation_rows:
        return (
            f"the script evaluated nothing within {len(record.updates)} updates; --updates N and --seconds N set more"
        )
    if evaluations and all(event.value is None for event in evaluations):
        return (
            f"within {len(record.updates)} updates, the script computed no loss without gradients; if it evaluates, "
            "names such as val_loader or split='val' would show where"
        )
    return _too_short(record, n_ids) or (
        "it is not known which of the evaluated rows are for validation; names such as val_loader or split='val' "
        "would show it"
    )


def _too_short(record: LoopRecord, n_ids: int) -> str:
    """Return why the ids of a script are not compared in any case; "" if they may be. n_ids: as of `_unknown`."""
    ids = [m.x for m in record.measurements if m.x is not None and m.x.dim() == 2 and not m.x.is_floating_point()]
    lengths = {x.shape[1] for x in ids}
    if not lengths or max(lengths) >= MIN_IDS:
        return ""
    if n_ids >= MIN_IDS and n_ids in {x.shape[0] for x in ids}:
        return "rows of ids [T, B] are not compared, only those of ids [B, T]"
    return f"rows of {max(lengths)} ids are too short: such rows repeat by chance in any text"


def _of_rows(compared: Sequence[SharedRows]) -> Iterator[Finding]:
    for rows in compared:
        are_windows = rows.n_near > rows.n_same
        if rows.n < MIN_ROWS or rows.is_by_chance or rows.n_shared <= _max_shared(rows, are_windows=are_windows):
            continue
        yield Finding(
            code="leaked_validation",
            title="Validation windows overlap training windows of the same stream."
            if are_windows
            else "Validation rows are also training rows.",
            evidence=f"{rows.n_same} of {rows.n} validation rows are training rows"
            + (f", and {rows.n_near} others share three quarters of their ids or more with one" if rows.n_near else "")
            + (f"; about {rows.n_expected:.0f} would if all came from the training data" if are_windows else ""),
            why=WHY,
            fix="Split the stream into contiguous parts first, with a gap of one window, and cut windows in each part."
            if are_windows
            else "Split before anything copies or samples rows, and evaluate rows of the held-out part only.",
            location=rows.line,
        )


def _max_shared(rows: SharedRows, *, are_windows: bool) -> float:
    """Return the number of shared rows that is not a leak.

    Of windows of a long stream, few training windows overlap each other, and as few validation windows if they are from
    the same stream. A healthy part with one copy of each text in the training part has half of that.
    """
    if not are_windows:
        return MAX_SHARE_OF_SCRIPT * rows.n
    return max(MIN_SHARED, min(MAX_SHARE_OF_SCRIPT * rows.n, MAX_SHARE_OF_EXPECTED * rows.n_expected))


def _shared_items(shared: SharedItems) -> Finding:
    return Finding(
        code="leaked_validation",
        title="Validation rows are also training rows.",
        evidence=f"{shared.n_shared} of {shared.n} items of the validation data set are items of the training data "
        f"set: {shared.how}",
        why=WHY,
        fix="Split the data set once, such as with torch.utils.data.random_split, and evaluate the held-out part only.",
    )
