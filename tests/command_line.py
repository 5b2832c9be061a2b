"""Run the command line inside the test's process. A subprocess has to import torch, which takes over a second."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tui_lab.cli.main import command, main
from tui_lab.core.doctor import diagnose, worker
from tui_lab.util.errors import LabError


@dataclass(frozen=True)
class Result:
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str


RunCli = Callable[..., Result]
CliError = Callable[..., LabError]


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunCli:
    """`run_cli("runs", "ls")` runs a command in `tmp_path`, with 160 columns and no color."""
    return _runner(capsys, monkeypatch, tmp_path)


@pytest.fixture
def run_with_child(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunCli:
    """As `run_cli`; the result has what child processes of the command write, too."""
    return _runner(capfd, monkeypatch, tmp_path)


@pytest.fixture
def doctor_in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Examine user code in the test's process, for tests that are not about the doctor's child process.

    A script still has a process of its own: what imports `run_child` while it is replaced keeps the replacement.
    """
    from tests.core.doctor.short_rehearsals import shorten_rehearsals  # It imports torch.

    shorten_rehearsals(monkeypatch)
    run_in_child = diagnose.run_child

    def run_child(command: diagnose.Command, *others: Any, quiet: bool) -> int | None:
        if "tui_lab.core.doctor.worker" not in command.arguments:
            return run_in_child(command, *others, quiet=quiet)
        with monkeypatch.context() as context:
            context.setattr(sys, "stdout", sys.stdout)  # The worker replaces it.
            source, out = command.arguments[-2:]
            worker.main(source, out)
        return 0

    monkeypatch.setattr(diagnose, "run_child", run_child)


def _runner(capture: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> RunCli:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Result:
        capture.readouterr()
        monkeypatch.setattr(sys, "argv", ["tui-lab", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
        output = capture.readouterr()
        code = exited.value.code
        return Result(code if isinstance(code, int) else 0, output.out, output.err)

    return run


@pytest.fixture
def cli_error(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> CliError:
    """`cli_error("runs", "show", "x")` returns the error that a command raises before it prints anything."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> LabError:
        capsys.readouterr()
        with pytest.raises(LabError) as caught:
            command()([str(argument) for argument in arguments], prog_name="tui-lab", standalone_mode=False)
        assert capsys.readouterr().out == ""
        return caught.value

    return run
