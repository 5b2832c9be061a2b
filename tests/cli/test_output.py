"""What a user's model prints goes to stderr, a command's own output to stdout."""

import json
import shutil
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.process import TINY, Cli

LOUD = """
import torch
from torch import nn

print("printed at import")

class Loud(nn.Module):
    def __init__(self, n_vocab):
        super().__init__()
        print("printed in __init__")
        self.e, self.h = nn.Embedding(n_vocab, 8), nn.Linear(8, n_vocab)

    def forward(self, x):
        print("printed in forward")
        return self.h(torch.tanh(self.e(x).cumsum(1)))
"""
PLACES = ("printed at import", "printed in __init__", "printed in forward")


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "loud.py").write_text(LOUD, "utf-8")
    return "model.source=loud.py:Loud"


def events(out: str) -> list[str]:
    """The kinds of the JSON lines. Raises ValueError for a line that is not JSON."""
    return [json.loads(line)["event"] for line in out.splitlines()]


def test_json_stays_json_when_the_model_prints(source: str, run_cli: RunCli) -> None:
    run = run_cli("run", "reverse", *TINY, "--set", source, "--steps", "2", "--out", "r", "--json")
    assert run.code == 0 and events(run.out)[-1] == "summary"
    assert all(place in run.err for place in PLACES)
    shutil.copytree("r", "copy")
    generated = run_cli("generate", "r", "--prompt", "123", "--max-new-tokens", "2", "--json")
    assert events(generated.out) == ["token", "token", "text"] and PLACES[2] in generated.err
    for command in (
        ("doctor", "r", "--json"),
        ("doctor", "reverse", *TINY, "--set", source, "--json"),
        ("randomness", "reverse", *TINY, "--set", source, "--json"),
        ("runs", "compare", "r", "copy", "--prompt", "1", "--max-new-tokens", "1", "--json"),
    ):
        result = run_cli(*command)
        assert isinstance(json.loads(result.out), dict), command
        assert PLACES[1] in result.err, command


def test_text_output_is_on_stdout_alone(source: str, run_cli: RunCli) -> None:
    run = run_cli("run", "reverse", *TINY, "--set", source, "--steps", "2", "--out", "r", "--quiet")
    assert run.out.startswith("done after 2 steps") and "printed" not in run.out
    generated = run_cli("generate", "r", "--prompt", "123", "--max-new-tokens", "2")
    assert generated.out.startswith("123") and "printed" not in generated.out
    assert run_cli("report", "r", "--to", "r.html").out == "r.html\n"


LISTING_IMPORTS = """
import atexit, pathlib, sys
atexit.register(lambda: pathlib.Path("imported.txt").write_text(" ".join(sys.modules)))
from tui_lab.cli.main import main
main()
"""


def test_a_process_of_its_own_does_the_same_without_torch_s_compiler(
    source: str, cli: Cli, command: list[str], tmp_path: Path
) -> None:
    """The compiler takes as long to import as torch."""
    command[1:] = ["-c", LISTING_IMPORTS]
    done = cli("run", "reverse", *TINY, "--set", source, "--steps", "1", "--out", "r", "--json")
    assert done.returncode == 0 and events(done.stdout)[-1] == "summary" and PLACES[0] in done.stderr
    imported = (tmp_path / "imported.txt").read_text("utf-8").split()
    assert "torch" in imported and "torch._dynamo" not in imported


def test_stdout_is_restored_after_the_command(source: str, run_cli: RunCli, capsys: pytest.CaptureFixture[str]) -> None:
    run_cli("randomness", "reverse", *TINY, "--set", source, "--json")
    print("afterwards")  # noqa: T201
    assert capsys.readouterr().out == "afterwards\n"
