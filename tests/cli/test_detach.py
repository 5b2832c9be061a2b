"""`tui-lab run --detach` reports what stops a run before it trains, and leaves nothing behind."""

from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.process import TINY


@pytest.mark.slow
def test_a_detached_run_that_cannot_start_gives_its_error_and_exit_code(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("run", "reverse", *TINY, "--set", "optim.lr=-1", "--out", "x", "--detach")
    assert done.code == 2 and "optim.lr" in done.err and done.out == ""
    assert not (tmp_path / "x").exists()
