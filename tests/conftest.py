"""Every test has its own cache and runs folder: none touches the person's."""

import os
from pathlib import Path

import pytest

# Before torch is imported, here and in programs that tests start: threads of several tests would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "runs"))
