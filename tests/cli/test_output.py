"""What a user's model prints goes to stderr, and a command's own output to stdout."""

import json
import shutil
from pathlib import Path

import pytest

from tests.inside import Told
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
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "loud.py").write_text(LOUD, "utf-8")
    return "model.source=loud.py:Loud"


def events(out: str) -> list[str]:
    """The kinds of the JSON lines. Raises ValueError where a line is not JSON."""
    return [json.loads(line)["event"] for line in out.splitlines()]


def test_json_lines_are_json_although_the_model_prints(source: str, told: Told) -> None:
    run = told("run", "reverse", *TINY, "--set", source, "--steps", "2", "--out", "r", "--json")
    assert run.code == 0 and events(run.out)[-1] == "summary"
    assert all(place in run.err for place in PLACES)
    shutil.copytree("r", "copy")
    spoken = told("generate", "r", "--prompt", "123", "--max-new-tokens", "2", "--json")
    assert events(spoken.out) == ["token", "token", "text"] and PLACES[2] in spoken.err
    for command in (
        ("doctor", "r", "--json"),
        ("doctor", "reverse", *TINY, "--set", source, "--json"),
        ("randomness", "reverse", *TINY, "--set", source, "--json"),
        ("runs", "compare", "r", "copy", "--prompt", "1", "--max-new-tokens", "1", "--json"),
    ):
        shown = told(*command)
        assert isinstance(json.loads(shown.out), dict), command
        assert PLACES[1] in shown.err, command


def test_output_for_people_is_on_stdout_alone(source: str, told: Told) -> None:
    run = told("run", "reverse", *TINY, "--set", source, "--steps", "2", "--out", "r", "--quiet")
    assert "2 steps, done" in run.out and "printed" not in run.out
    spoken = told("generate", "r", "--prompt", "123", "--max-new-tokens", "2")
    assert spoken.out.startswith("123") and "printed" not in spoken.out
    page = told("report", "r", "--to", "r.html")
    assert page.out == "r.html\n"


def test_a_process_of_its_own_does_the_same(source: str, cli: Cli) -> None:
    done = cli("run", "reverse", *TINY, "--set", source, "--steps", "1", "--out", "r", "--json")
    assert done.returncode == 0 and events(done.stdout)[-1] == "summary" and PLACES[0] in done.stderr


def test_stdout_is_as_it_was_after_the_command(source: str, told: Told, capsys: pytest.CaptureFixture[str]) -> None:
    told("randomness", "reverse", *TINY, "--set", source, "--json")
    print("afterwards")  # noqa: T201
    assert capsys.readouterr().out == "afterwards\n"
