"""`tui-lab doctor` and `faults` on the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import RunCli
from tests.process import TINY, Cli
from tui_lab.cli.doctor import exit_code, show
from tui_lab.core.doctor.findings import Crashed, Finding, Report
from tui_lab.util.exit_codes import NOT_MET

USER_CODE = """
import sys, time
import torch
from torch import nn
from tui_lab import Case

class Healthy(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.h = nn.Embedding(13, 8), nn.Linear(8, 13)
    def forward(self, x):
        return self.h(torch.tanh(self.e(x).cumsum(1)))

class Peeks(Healthy):
    def forward(self, x):
        return self.h(torch.tanh(self.e(x).sum(1, keepdim=True) + self.e(x)))

def _batch(step):
    tokens = torch.randint(0, 13, (4, 17), generator=torch.Generator().manual_seed(step))
    return tokens[:, :-1], tokens[:, 1:]

def _update(model, optimizers, x, y):
    raise OSError("the disk is full")

def crashes():
    model = Healthy()
    return Case(model, _batch, optimizer=torch.optim.Adam(model.parameters()), update=_update)

def prints():
    print("a word from the file")
    return Healthy()

def loops():
    while True:
        pass

def dies():
    import os
    os._exit(7)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(USER_CODE, "utf-8")
    return path


def test_exit_code_is_0_for_healthy(run_cli: RunCli) -> None:
    done = run_cli("doctor", "reverse", *TINY)
    assert done.code == 0 and "reverse: no problems found" in done.out and "Traceback" not in done.err


def test_json_is_one_object_and_sarif_has_the_findings(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "doctor.json"
    done = run_cli("doctor", "confusion-1", *TINY, "--json", "--sarif", str(file))
    report: dict[str, Any] = json.loads(done.out)
    assert done.code == 1 and report["source"] == "confusion-1" and not report["healthy"]
    assert report["findings"][0]["code"] == "shifted_targets" and report["findings"][0]["drawing"]
    [run] = json.loads(file.read_text("utf-8"))["runs"]
    assert run["results"][0]["ruleId"] == "shifted_targets"


@pytest.mark.slow
def test_run_is_diagnosed_with_its_weights(cli: Cli) -> None:
    cli("run", "reverse", *TINY, "--steps", "30", "--out", "r", "--quiet")
    report = json.loads(cli("doctor", "r", "--json").stdout)
    assert report["healthy"]
    unchecked = report["not_judged"] + report["not_applicable"]
    assert "initial loss" in {check["check"] for check in unchecked}


@pytest.mark.usefixtures("doctor_in_process")
def test_user_code_with_a_finding_is_exit_1(file: Path, run_cli: RunCli) -> None:
    done = run_cli("doctor", "mine.py:Peeks")
    assert done.code == 1 and "[causal_leak]" in done.out and "no problems" not in done.out


@pytest.mark.slow
def test_output_of_user_code_goes_to_stderr(file: Path, run_with_child: RunCli) -> None:
    done = run_with_child("doctor", "mine.py:prints", "--json")
    assert json.loads(done.out)["healthy"] and "a word from the file" in done.err


@pytest.mark.usefixtures("doctor_in_process")
def test_exit_code_is_4_if_a_check_crashed(file: Path, run_cli: RunCli) -> None:
    done = run_cli("doctor", "mine.py:crashes", "--junit", "report.xml")
    assert done.code == 4 and "no problems found" not in done.out
    assert "OSError: the disk is full" in done.out
    assert 'errors="0"' not in (file.parent / "report.xml").read_text("utf-8")


def test_a_finding_beside_a_crash_is_exit_1() -> None:
    finding = Finding(code="causal_leak", title="", evidence="", why="", fix="")
    crashed = Crashed("update", "OSError", "")
    assert exit_code(Report(findings=(finding,), crashed=(crashed,))) == NOT_MET


@pytest.mark.usefixtures("doctor_in_process")
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mine.py:Healthi"], "did you mean 'Healthy'?"),
        (["none.py:x"], "no such file"),
        (["mine.py:Healthy", "--set", "optim.lr=1"], "has no settings"),
        (["revers"], "did you mean 'reverse'?"),
        (["mine"], "did you mean 'mine.py'?"),
        (["mine.py", "--data=x"], "doctor mine.py -- "),
        ([], "name a PRESET, CONFIG, RUN, SCRIPT.py or FILE.py:NAME"),
        (["reverse", "--set", 'faults=["no_maks"]'], "did you mean 'no_mask'?"),
    ],
)
def test_exit_code_is_2_for_what_cannot_be_diagnosed(
    arguments: list[str], words: str, file: Path, run_cli: RunCli
) -> None:
    done = run_cli("doctor", *arguments)
    assert done.code == 2 and done.out == ""
    assert words in done.err and "Traceback" not in done.err and "None" not in done.err


def test_user_code_that_never_ends_is_exit_2(file: Path, run_cli: RunCli) -> None:
    done = run_cli("doctor", "mine.py:loops", "--timeout", "1")
    assert done.code == 2 and done.out == "" and "did not finish within 1 s (last stage: " in done.err


def test_faults_are_listed_with_their_findings(run_cli: RunCli) -> None:
    faults = json.loads(run_cli("faults", "--json").out)
    assert len(faults) >= 20 and faults["no_mask"]["finding"] == "causal_leak"
    assert "y[t] = x[t+2]" in run_cli("faults").out


@pytest.mark.slow
def test_run_reports_its_planted_faults(cli: Cli) -> None:
    run = ["run", "reverse", *TINY, "--steps", "2"]
    assert "no_mask" in cli(*run, "--set", 'faults=["no_mask"]').stdout
    for options, faults in ([], []), (["--set", 'faults=["no_mask"]'], ["no_mask"]):
        assert json.loads(cli(*run, *options, "--json").stdout.splitlines()[-1])["faults"] == faults


@pytest.mark.slow
def test_monitor_reports_a_run_that_learns_nothing(cli: Cli) -> None:
    stuck = (*TINY, "--steps", "300", "--set", "optim.lr=0", "--set", "train.eval_every=0")
    assert "stuck at ln V" in cli("run", "reverse", *stuck).stderr
    assert cli("run", "reverse", *stuck, "--quiet").stderr == ""


def test_explain_prints_the_entry_of_a_code(run_cli: RunCli) -> None:
    done = run_cli("doctor", "--explain", "double_softmax", "--json")
    assert done.code == 0
    assert json.loads(done.out)["code"] == "double_softmax"


def test_explain_covers_all_codes_and_checks(run_cli: RunCli) -> None:
    listed = json.loads(run_cli("doctor", "--explain", "list", "--json").out)
    assert "double_softmax" in listed["codes"] and all(listed["checks"].values())
    assert "looks like" in run_cli("doctor", "--explain", "double_softmax").out
    as_text = run_cli("doctor", "--explain").out
    assert "double_softmax" in as_text and "validation leak" in as_text
    for check, question in listed["checks"].items():
        assert json.loads(run_cli("doctor", "--explain", check, "--json").out)["question"] == question


@pytest.mark.parametrize("name", ["validation_leak", "validation-leak", "Validation Leak"])
def test_explain_takes_any_form_of_the_name_of_a_check(run_cli: RunCli, name: str) -> None:
    assert json.loads(run_cli("doctor", "--explain", name, "--json").out)["check"] == "validation leak"


def test_explain_takes_any_form_of_a_code(run_cli: RunCli) -> None:
    assert json.loads(run_cli("doctor", "--explain", "double softmax", "--json").out)["code"] == "double_softmax"


def test_explain_of_an_unknown_code_suggests_the_nearest(run_cli: RunCli) -> None:
    done = run_cli("doctor", "--explain", "double_sofmax")
    assert done.code == 2 and "double_softmax" in done.err


@pytest.mark.parametrize("source", ["train.py", pytest.param("mine.py:dies", marks=pytest.mark.slow)])
def test_every_kind_of_result_is_written_for_what_cannot_be_diagnosed(source: str, file: Path, run_cli: RunCli) -> None:
    (file.parent / "train.py").write_text("import os\nos._exit(7)\n", "utf-8")
    done = run_cli("doctor", source, "--json", "--junit", "new/report.xml", "--sarif", "report.json")
    assert done.code == 2 and "exit code 7" in json.loads(done.out)["error"]
    assert 'errors="1"' in (file.parent / "new/report.xml").read_text("utf-8") and "new" in done.err
    [run] = json.loads((file.parent / "report.json").read_text("utf-8"))["runs"]
    assert run["results"] == [] and not run["invocations"][0]["executionSuccessful"]


@pytest.mark.parametrize(("title", "is_beside"), [("Short.", True), ("A long title of a finding. " * 3, False)])
def test_place_of_a_finding_does_not_stand_alone_in_a_line(
    title: str, is_beside: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    finding = Finding(code="lr_zero", title=title, evidence="e", why="w", fix="f", location="train.py:42")
    show(Report(findings=(finding,)), "train.py")
    [line] = [line for line in capsys.readouterr().out.splitlines() if "lr_zero" in line]
    assert "train.py:42" in line and (title.strip() in line) == is_beside and ("code" in line) != is_beside
