"""`tui-lab doctor`, `randomness` and `faults` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.process import TINY, Cli

USER_CODE = """
import sys, time
import torch
from torch import nn

class Healthy(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.h = nn.Embedding(13, 8), nn.Linear(8, 13)
    def forward(self, x):
        return self.h(torch.tanh(self.e(x).cumsum(1)))

class Peeks(Healthy):
    def forward(self, x):
        return self.h(torch.tanh(self.e(x).sum(1, keepdim=True) + self.e(x)))

class Flat(Healthy):
    def forward(self, x):
        return super().forward(x).flatten(1)

def _case(model, fails):
    from tui_lab import Case
    def batch(step):
        if fails(step):
            raise OSError("the file is gone")
        tokens = torch.randint(0, 13, (4, 17), generator=torch.Generator().manual_seed(step))
        return tokens[:, :-1], tokens[:, 1:]
    return Case(model, batch)

def no_batches():
    return _case(Healthy(), lambda step: True)

def few_batches():
    return _case(Peeks(), lambda step: step > 2)

def prints():
    print("a word from the file")
    return Healthy()

def loops():
    while True:
        pass

def dies():
    import os
    os._exit(7)

def raises():
    raise ValueError("not today")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(USER_CODE, "utf-8")
    return path


def test_exit_code_is_0_for_healthy_and_1_for_a_finding(cli: Cli) -> None:
    done = cli("doctor", "reverse", *TINY)
    assert done.returncode == 0 and "reverse: no problems found" in done.stdout and "Traceback" not in done.stderr
    done = cli("doctor", "reverse", *TINY, "--set", 'faults=["double_softmax"]')
    assert done.returncode == 1 and "[double_softmax]" in done.stdout and "no problems" not in done.stdout


def test_json_is_one_object(cli: Cli) -> None:
    done = cli("doctor", "confusion-1", *TINY, "--json")
    found: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1 and found["source"] == "confusion-1" and not found["healthy"]
    assert found["findings"][0]["code"] == "shifted_targets" and found["findings"][0]["drawing"]


@pytest.mark.slow
def test_run_is_diagnosed_with_its_weights(cli: Cli) -> None:
    cli("run", "reverse", *TINY, "--steps", "30", "--out", "r", "--quiet")
    found = json.loads(cli("doctor", "r", "--json").stdout)
    assert found["healthy"]
    assert "initial loss" in {skipped["check"] for skipped in found["skipped"]}


def test_user_code_is_diagnosed(file: Path, cli: Cli) -> None:
    healthy = cli("doctor", "mine.py:Healthy")
    assert healthy.returncode == 0 and "no problems found" in healthy.stdout
    peeks = cli("doctor", "mine.py:Peeks", "--json")
    assert peeks.returncode == 1 and json.loads(peeks.stdout)["findings"][0]["code"] == "causal_leak"
    flat = cli("doctor", "mine.py:Flat", "--json")
    assert flat.returncode == 1 and json.loads(flat.stdout)["findings"][0]["code"] == "output_shape"
    prints = cli("doctor", "mine.py:prints", "--json")
    assert json.loads(prints.stdout)["healthy"] and "a word from the file" in prints.stderr


def test_exit_code_is_4_if_a_check_crashed(file: Path, cli: Cli) -> None:
    done = cli("doctor", "mine.py:no_batches", "--junit", "report.xml")
    assert done.returncode == 4 and "no problems found" not in done.stdout
    assert "OSError: the file is gone" in done.stdout
    assert 'errors="0"' not in (file.parent / "report.xml").read_text("utf-8")
    done = cli("doctor", "mine.py:few_batches", "--json")
    report: dict[str, Any] = json.loads(done.stdout)
    assert done.returncode == 1 and not report["healthy"] and report["findings"][0]["code"] == "causal_leak"
    assert {crash["error"] for crash in report["crashed"]} == {"OSError"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine.py:loops", "--timeout", "4"], "not finished within 4 s (last stage: "),
        (["mine.py:dies"], "its process ended with exit code 7"),
        (["mine.py:raises"], "line 49: raises() raised ValueError: not today"),
        (["mine.py:Healthi"], "did you mean 'Healthy'?"),
        (["mine.py"], "add :NAME"),
        (["none.py:x"], "no such file"),
        (["mine.py:Healthy", "--set", "optim.lr=1"], "has no settings"),
        (["revers"], "did you mean 'reverse'?"),
        ([], "name a PRESET, CONFIG, RUN or FILE.py:NAME"),
        (["reverse", "--set", 'faults=["no_maks"]'], "did you mean 'no_mask'?"),
    ],
)
def test_exit_code_is_2_for_what_cannot_be_diagnosed(arguments: list[str], words: str, file: Path, cli: Cli) -> None:
    done = cli("doctor", *arguments)
    assert done.returncode == 2 and done.stdout == ""
    assert words in done.stderr and "Traceback" not in done.stderr and "None" not in done.stderr


def test_randomness_lists_every_source_and_pins_them(cli: Cli, tmp_path: Path) -> None:
    shown = json.loads(cli("randomness", "reverse", *TINY[:-2], "--step", "3", "--json").stdout)
    free = [source["name"] for source in shown["sources"] if not source["pinned"]]
    assert shown["step"] == 3 and free == ["threads"]
    (tmp_path / "pinned.toml").write_text(cli("randomness", "reverse", *TINY[:-2], "--pin").stdout, "utf-8")
    again = json.loads(cli("randomness", "pinned.toml", "--json").stdout)
    assert all(source["pinned"] for source in again["sources"])
    assert "initialization" in cli("randomness", "reverse", *TINY).stdout


def test_faults_are_listed_with_their_findings(cli: Cli) -> None:
    shown = json.loads(cli("faults", "--json").stdout)
    assert len(shown) >= 20 and shown["no_mask"]["finding"] == "causal_leak"
    assert "y[t] = x[t+2]" in cli("faults").stdout


@pytest.mark.slow
def test_run_reports_its_planted_faults(cli: Cli) -> None:
    done = cli("run", "reverse", *TINY, "--steps", "2", "--set", 'faults=["no_mask"]')
    assert "no_mask, made on purpose" in done.stdout
    summary = json.loads(cli("run", "reverse", *TINY, "--steps", "2", "--json").stdout.splitlines()[-1])
    assert summary["faults"] == []


@pytest.mark.slow
def test_monitor_reports_a_run_that_learns_nothing(cli: Cli) -> None:
    stuck = (*TINY, "--steps", "300", "--set", "optim.lr=0", "--set", "train.eval_every=0")
    assert "stuck at ln V" in cli("run", "reverse", *stuck).stderr
    assert cli("run", "reverse", *stuck, "--quiet").stderr == ""
