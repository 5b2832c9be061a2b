"""Are validation examples among the training examples? Cost: what the subject's own comparison takes."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject

CHANCE = 0.05
"""Share of shared examples that may be chance: short rows repeat in any text."""


def check(subject: Subject, probe: Probe | None) -> Iterator[Finding]:
    if subject.validation is None:
        raise Skip("no validation examples are known, or they are too short to tell a leak from chance")
    shared, looked = subject.validation()
    if shared > CHANCE * looked:
        yield Finding(
            "leaked_validation",
            "Validation examples are training examples.",
            f"{shared} of {looked} validation examples stand in the training part too",
            "A validation loss on what was trained on cannot show overfitting: early stopping never stops.",
            "Split before cutting windows, by contiguous parts or by a hash of the example.",
        )
