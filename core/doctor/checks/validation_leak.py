"""Do validation examples occur in the training data? Cost: that of the target's own comparison."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.target import Target

MAX_SHARE = 0.05
"""Fraction of common examples that may be chance: short rows repeat in any text."""


def check(target: Target) -> Iterator[Finding]:
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
