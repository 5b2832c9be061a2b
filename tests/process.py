"""Run the command line in a separate process: for signals, locks, limits, and what an import costs."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

_TINY = ("data.length=3", "model.d_model=8", "model.n_layers=1", "model.d_ff=8", "train.eval_examples=8")
TINY = tuple(word for setting in (*_TINY, "train.threads=1") for word in ("--set", setting))
"""Options that make `reverse` so small that a step takes a millisecond."""


@pytest.fixture
def command() -> list[str]:
    """The program. A test may change the list before it calls `cli`."""
    return [sys.executable, "-m", "tui_lab"]


@pytest.fixture
def cli(command: list[str], tmp_path: Path) -> Cli:
    """`cli("runs", "ls")` runs the program in `tmp_path`; its output goes to pipes."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run
