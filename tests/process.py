import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Cli = Callable[..., subprocess.CompletedProcess[str]]

TINY = ("--set", "data.length=3", "--set", "model.d_model=8", "--set", "model.n_layers=1", "--set", "model.d_ff=8",
        "--set", "train.eval_examples=8", "--set", "train.threads=1")  # fmt: skip
"""`reverse`, made so small that a step takes a millisecond."""


@pytest.fixture
def command() -> list[str]:
    return [sys.executable, "-m", "tui_lab"]


@pytest.fixture
def cli(command: list[str], tmp_path: Path) -> Cli:
    """Run the program in an empty folder; its standard output and error are pipes."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
        return subprocess.run(
            [*command, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    return run
