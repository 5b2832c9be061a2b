"""Fixtures for tests of the doctor."""

import pytest

from tests.core.doctor.short_rehearsals import shorten_rehearsals


@pytest.fixture(autouse=True)
def short_rehearsals(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rehearse few updates, but in slow tests as many as the doctor."""
    if request.node.get_closest_marker("slow") is None:
        shorten_rehearsals(monkeypatch)
