"""Fixtures for tests of the doctor."""

import pytest

from tests.core.doctor.short_rehearsals import shorten_rehearsals
from tui_lab.core.doctor import runner
from tui_lab.core.doctor.checks.registry import CHECKS


@pytest.fixture(autouse=True)
def short_rehearsals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearse few updates, but in slow tests as many as the doctor."""
    if request.node.get_closest_marker("slow") is None:
        shorten_rehearsals(monkeypatch)


@pytest.fixture
def without_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the checks that train at several rates: half of the time of an examination that finds another fault."""
    checks = tuple(check for check in CHECKS if check.name not in ("overfit", "loss progress"))
    assert len(checks) == len(CHECKS) - 2
    monkeypatch.setattr(runner, "CHECKS", checks)
