"""`tui-lab run --detach` reports what stops a run before it trains, and leaves nothing behind."""

from pathlib import Path

from tests.process import TINY, Cli


def test_a_detached_run_that_cannot_start_gives_its_error_and_exit_code(cli: Cli, tmp_path: Path) -> None:
    done = cli("run", "reverse", *TINY, "--set", "optim.lr=-1", "--out", "x", "--detach")
    assert done.returncode == 2 and "optim.lr" in done.stderr and done.stdout == ""
    assert not (tmp_path / "x").exists()
