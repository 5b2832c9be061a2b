"""Tests of Textual itself paint every frame."""

import pytest


@pytest.fixture(autouse=True)
def paint_when_waited_for() -> None:
    """Paint as Textual does."""
