"""`tui-lab run --detach` reports what stops a run before it trains, and leaves nothing behind."""

from pathlib import Path

import pytest

from tests.command_line import CliError, RunCli
from tests.process import TINY
from tui_lab.core.runs.run_files import CONFIG, OUTPUT


@pytest.mark.slow
def test_a_detached_run_that_cannot_start_gives_its_error_and_exit_code(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("run", "reverse", *TINY, "--set", "optim.lr=-1", "--out", "x", "--detach")
    assert done.code == 2 and "optim.lr" in done.err and done.out == ""
    assert not (tmp_path / "x").exists()


def test_output_is_not_written_through_a_link(cli_error: CliError, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine", "utf-8")
    folder = tmp_path / "x"
    folder.mkdir()
    (folder / OUTPUT).symlink_to(outside)
    problem = cli_error("run", "reverse", *TINY, "--out", "x", "--detach").problems[0]
    assert (problem.code, problem.key) == ("invalid", str(Path("x") / OUTPUT))
    assert outside.read_text("utf-8") == "mine" and not (folder / CONFIG).exists()
