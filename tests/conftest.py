"""Every test has its own cache and runs folder: none touches the person's."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "runs"))
