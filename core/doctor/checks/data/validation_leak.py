"""Do validation examples occur in the training data? Cost: that of the target's own comparison."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.observed import SharedRows
from tui_lab.core.doctor.program.target import Target

MAX_SHARE = 0.05
"""Fraction of common examples that may be chance: short rows repeat in any text."""


MIN_ROWS = 16
"""Rows of a script's validation part, before it is judged."""
MOST = 0.5
"""Fraction of such rows."""


def check(target: Target) -> Iterator[Finding]:
    if target.validation is None and target.record is not None and target.record.observed.shared_rows:
        yield from _of_loop(target.record.observed.shared_rows)
        return
    if target.validation is None:
        raise NotJudged("no validation examples were given, or they are too short to tell a leak from chance")
    shared, compared = target.validation()
    if shared > MAX_SHARE * compared:
        yield Finding(
            code="leaked_validation",
            title="Validation examples also occur in the training data.",
            evidence=f"{shared} of {compared} validation examples are training examples",
            why="A validation loss on training data cannot show overfitting, so early stopping never triggers.",
            fix="Split before cutting windows: into contiguous parts, or by a hash of each example.",
        )


def _of_loop(compared: tuple[SharedRows, ...]) -> Iterator[Finding]:
    """Judge the rows that a script evaluates as its validation part."""
    for rows in compared:
        n_shared = rows.n_same + rows.n_near
        if rows.n < MIN_ROWS or rows.is_by_chance or n_shared <= MOST * rows.n:
            continue
        are_windows = rows.n_near > rows.n_same
        yield Finding(
            code="leaked_validation",
            title="Validation windows overlap training windows of the same stream."
            if are_windows
            else "Validation rows are also training rows.",
            evidence=f"{rows.n_same} of {rows.n} validation rows are training rows"
            + (f", and {rows.n_near} others share three quarters of their ids or more with one" if rows.n_near else ""),
            why="A validation loss on training data cannot show overfitting, so early stopping never triggers.",
            fix="Split the stream into contiguous parts first, with a gap of one window, and cut windows in each part."
            if are_windows
            else "Split before anything copies or samples rows, and evaluate rows of the held-out part only.",
            location=rows.line,
        )
        return
