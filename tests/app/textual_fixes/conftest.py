"""Tests of Textual itself paint every frame."""

import pytest


@pytest.fixture(autouse=True)
def paint_what_is_looked_at() -> None:
    """Paint as Textual does."""
