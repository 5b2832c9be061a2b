"""The command line within the test's own process: for commands that start fast only there."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tui_lab.cli.main import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


Told = Callable[..., Done]


@pytest.fixture
def told(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Told:
    """`told("runs", "ls")`: the exit code, and what was printed on a terminal of 160 columns without colour."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(*words: object) -> Done:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tui-lab", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run
