"""Every test has its own cache and runs folder, and finds what the process shares as the first test found it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import cli_error as cli_error
from tests.command_line import run_cli as run_cli
from tests.process import cli as cli
from tests.process import command as command
from tui_lab.core.kernels.process_tuning import raise_gc_threshold

# Before torch is imported, here and in programs that tests start: threads of several tests would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# As the programs do: looking for dead cycles was two fifths of the time of a test of the app.
raise_gc_threshold()


def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: half as many more than cores, since tests of the app wait for it to be idle between two keys."""
    cores = len(os.sched_getaffinity(0))
    return cores + cores // 2


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TUI_LAB_RUNS", str(tmp_path / "runs"))


@pytest.fixture(autouse=True)
def nothing_leaks(request: pytest.FixtureRequest) -> Iterator[None]:
    """torch draws from the seed of the run's random order, as `random` and numpy do, so that a seed can be replayed.

    Afterwards its threads, its gradient mode, the paths that imports are looked for in and the folder are as before.
    """
    torch = sys.modules.get("torch")
    paths, folder = list(sys.path), Path.cwd()
    if torch is not None:
        torch.manual_seed(request.config.getoption("randomly_seed", 0))
        threads, learning = torch.get_num_threads(), torch.is_grad_enabled()
    yield
    if torch is not None:
        torch.set_num_threads(threads)
        torch.set_grad_enabled(learning)
    sys.path[:] = paths
    os.chdir(folder)
