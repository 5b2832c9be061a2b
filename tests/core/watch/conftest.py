"""A folder of its own for each test of the recorder."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def outside_of_a_work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder that is in no git work tree: each recording would ask git, and keep the text of all tests."""
    monkeypatch.chdir(tmp_path)
