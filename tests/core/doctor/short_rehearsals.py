"""The doctor's tests rehearse fewer updates than the doctor does."""

import pytest

from tui_lab.core.doctor.loop import rehearsal

UPDATES = 20
"""As many as a check asks for (`loss_progress.MIN_UPDATES`). With 50, they were half of the time of an examination."""


def shorten_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearse UPDATES updates in this process."""
    monkeypatch.setattr(rehearsal, "UPDATES", UPDATES)
