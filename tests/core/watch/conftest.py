"""A folder of its own for each test of the recorder, and a run that is recorded into it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import tui_lab


@pytest.fixture(autouse=True)
def outside_of_a_work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that is in no git work tree: each recording would ask git, and keep the text of all tests."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tui_lab.WatchedRun]:
    """A run that records the training of the test."""
    with tui_lab.watch(out=tmp_path / "run") as run:
        yield run
