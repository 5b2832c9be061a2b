"""`tui-lab doctor SCRIPT.py`: an unchanged script is run, stopped, and examined."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import RunCli
from tui_lab.cli import script_doctor
from tui_lab.cli.script_doctor import BEFORE_CHECKS, _Progress
from tui_lab.core.doctor import diagnose
from tui_lab.core.doctor.diagnose import Interrupted
from tui_lab.core.doctor.findings import NOT_RUN, Report, report_from_json
from tui_lab.core.doctor.script.process import Limits, examine_script
from tui_lab.core.watch.process.script_process import Target
from tui_lab.util.exit_codes import of_signal

LOOP = """
import sys
import torch
from torch import nn
from torch.nn import functional as F

V = 11
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.r, self.h = nn.Embedding(V, 16), nn.GRU(16, 16, batch_first=True), nn.Linear(16, V)
    def forward(self, x):
        return self.h(self.r(self.e(x))[0])

torch.set_num_threads(1)
model = Model()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
data = torch.randint(0, V, (200, 13))
print("arguments", sys.argv[1:])
for step in range(1000):
    rows = data[torch.randint(0, len(data), (8,))]
    x, y = rows[:, :-1], rows[:, 1:]
    loss = F.cross_entropy(model(x).view(-1, V), y.reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
# torch's own optimizers import torch._dynamo, which takes as long as importing torch.
QUICK_LOOP = LOOP.replace("torch.optim.Adam", "Adam").replace(
    "import torch\n", "import torch\nfrom tui_lab.core.training.optim_without_dynamo import Adam\n", 1
)
BY_HAND = """
import torch
w = torch.zeros(3, requires_grad=True)
for _ in range(5):
    (w - 1).pow(2).sum().backward()
    w.data -= 0.1 * w.grad
    w.grad = None
"""
UNUSED = BY_HAND.replace("0.1 *", "0 *")
TENSORS = BY_HAND.replace("for _", "optimizer = torch.optim.SGD([w], lr=0.1)\nfor _").replace(
    "w.data -= 0.1 * w.grad", "optimizer.step()"
)
SHORT = "--updates", "12"


def write(folder: Path, code: str, name: str = "train.py") -> None:
    (folder / name).write_text(code, "utf-8")


def codes(report: dict[str, Any]) -> list[str]:
    return [finding["code"] for finding in report["findings"]]


def test_healthy_script_is_stopped_and_changes_no_file(tmp_path: Path, run_with_child: RunCli) -> None:
    (tmp_path / "log.txt").write_text("mine", "utf-8")
    (tmp_path / "best.pt").write_bytes(b"mine")
    writes = """
    if step > 11: raise SystemExit('not stopped')
    with open("log.txt", "a") as log: log.write(str(step))
    torch.save(model.state_dict(), "part.pt")
    import os
    os.replace("part.pt", "best.pt")
    model.load_state_dict(torch.load("best.pt"))
    assert open("log.txt").read().startswith("mine0")
"""
    body = "".join(f"    {line}\n" for line in (QUICK_LOOP + writes).splitlines())
    write(tmp_path, f"try:\n{body}finally:\n    open('best.pt', 'wb').write(b'half')\n")
    done = run_with_child("doctor", "train.py", *SHORT, "--json", "--", "--lr", "3")
    report: dict[str, Any] = json.loads(done.out)
    assert report["updates"] == 12 and not report["interrupted"]
    assert done.code == 0 and report["healthy"] and {"loss", "causality", "overfit"} <= set(report["passed"])
    assert "12 updates" in report["examined"][0] and not report["without_updates"]
    assert "arguments ['--lr', '3']" in done.err
    assert {"best.pt", "log.txt", "train.py"} == {file.name for file in tmp_path.iterdir()}
    assert (tmp_path / "log.txt").read_bytes() == (tmp_path / "best.pt").read_bytes() == b"mine"
    assert {"log.txt", "best.pt"} <= set(report["not_written"])


@pytest.mark.slow
def test_fault_of_the_script_is_found(tmp_path: Path, run_with_child: RunCli) -> None:
    write(tmp_path, QUICK_LOOP.replace("rows[:, :-1], rows[:, 1:]", "rows[:, 1:], rows[:, 1:]"))
    done = run_with_child("doctor", "train.py", *SHORT, "--json", "--junit", "report.xml")
    assert done.code == 1 and codes(json.loads(done.out))[0] == "copied_targets"
    assert "copied_targets" in (tmp_path / "report.xml").read_text("utf-8")


@pytest.mark.slow
def test_module_is_run_as_python_runs_it(tmp_path: Path, run_with_child: RunCli) -> None:
    (tmp_path / "package").mkdir()
    write(tmp_path, "", "package/__init__.py")
    write(tmp_path, "size = 8\n", "package/settings.py")
    write(tmp_path, LOOP + "    from . import settings\n", "package/train.py")
    done = run_with_child("doctor", "-m", "package.train", *SHORT, "--json", "--", "--lr", "3")
    assert done.code == 0 and "arguments ['--lr', '3']" in done.err


@pytest.mark.slow
def test_script_that_ends_early_is_examined_at_its_end(tmp_path: Path, run_with_child: RunCli) -> None:
    write(tmp_path, LOOP.replace("range(1000)", "range(5)"))
    done = run_with_child("doctor", "train.py", "--json")
    assert done.code == 0 and "5 updates" in json.loads(done.out)["examined"][0]


@pytest.mark.slow
def test_error_of_the_script_is_shown_with_its_line(tmp_path: Path, run_with_child: RunCli) -> None:
    write(tmp_path, QUICK_LOOP + "    if step == 7: raise ValueError('not today')\n")
    done = run_with_child("doctor", "train.py", "--json")
    line = len(QUICK_LOOP.splitlines()) + 1
    where = f"train.py, line {line}: ValueError: not today"
    assert done.code == 2 and where in json.loads(done.out)["error"] and where in done.err


@pytest.mark.slow
def test_findings_before_an_error_are_reported(tmp_path: Path, run_with_child: RunCli) -> None:
    code = LOOP.replace("rows[:, :-1], rows[:, 1:]", "rows[:, 1:], rows[:, 1:]")
    write(tmp_path, code + "    if step == 7: raise ValueError('not today')\n")
    done = run_with_child("doctor", "train.py", "--json")
    report = json.loads(done.out)
    assert done.code == 1 and codes(report)[0] == "copied_targets" and "not today" in report["not_examined"][0]


@pytest.mark.slow
def test_loop_without_a_step_is_found(tmp_path: Path, run_with_child: RunCli) -> None:
    write(tmp_path, LOOP.replace("    optimizer.step()\n", "").replace("range(1000)", "range(20)"))
    done = run_with_child("doctor", "train.py", "--json")
    assert done.code == 1 and "no_step" in codes(json.loads(done.out))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import broken\n", "broken.py, line 2: syntax error: "),
        ("def f(:\n", "train.py, line 1: syntax error: "),
        ("import argparse\nargparse.ArgumentParser().parse_args(['--x'])\n", "ended with exit code 2"),
        ("import os\nos._exit(7)\n", "ended with exit code 7"),
        pytest.param(
            "import torch\nclass Net(torch.nn.Module): pass\n",
            "tui-lab doctor train.py:NAME, with NAME one of: Net",
            marks=pytest.mark.slow,
        ),
        pytest.param(UNUSED, "the weights never change", marks=pytest.mark.slow),
        ("print('hello')\n", "tui-lab doctor train.py:NAME"),
        ("while True: pass\n", "did not finish within 1 s"),
    ],
    ids=["import", "syntax", "arguments", "exit", "model", "unused", "no torch", "endless"],
)
def test_script_that_cannot_be_examined_is_a_usage_error(
    code: str, words: str, tmp_path: Path, run_with_child: RunCli
) -> None:
    write(tmp_path, "x = 1\nx = = 2\n", "broken.py")
    write(tmp_path, code)
    done = run_with_child("doctor", "train.py", *(["--timeout", "1"] if "while" in code else []))
    assert done.code == 2 and done.out == "" and words in done.err


@pytest.mark.parametrize(
    "arguments",
    [["none.py"], ["-m", "none"], ["train.py", "--set", "optim.lr=1"], ["reverse", "--", "--lr"], ["."]],
    ids=" ".join,
)
def test_wrong_command_lines_are_refused_before_anything_runs(
    arguments: list[str], tmp_path: Path, run_with_child: RunCli
) -> None:
    write(tmp_path, "print('it runs')\n")
    done = run_with_child("doctor", *arguments)
    assert done.code == 2 and done.out == "" and "it runs" not in done.err


@pytest.mark.slow
@pytest.mark.parametrize("code", [TENSORS, BY_HAND], ids=["optimizer", "by hand"])
def test_loop_without_a_module_is_judged_by_its_record(code: str, tmp_path: Path, run_with_child: RunCli) -> None:
    write(tmp_path, code)
    done = run_with_child("doctor", "train.py", "--json")
    report = json.loads(done.out)
    assert done.code == 0 and "5 updates" in report["examined"][0] and not report["crashed"]


@pytest.mark.slow
def test_model_whose_weights_are_changed_by_hand_is_examined(tmp_path: Path, run_with_child: RunCli) -> None:
    loop = LOOP.replace("    optimizer.step()\n", "    for p in model.parameters(): p.data.add_(p.grad, alpha=-0.1)\n")
    loop = loop.replace("optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)\n", "")
    write(tmp_path, loop.replace("optimizer.zero_grad()", "model.zero_grad()"))
    done = run_with_child("doctor", "train.py", *SHORT, "--json")
    report = json.loads(done.out)
    assert done.code == 0 and {"loss", "causality", "optimizer step", "gradient reset", "rates"} <= set(
        report["passed"]
    )
    assert "12 updates" in report["examined"][0] and not report["without_updates"]


@pytest.mark.slow
def test_same_command_has_the_same_report(tmp_path: Path, run_with_child: RunCli) -> None:
    write(tmp_path, LOOP.replace("torch.randint(0, V, (200, 13))", "torch.tensor([[hash('a') % V] * 13] * 200)"))
    reports = [json.loads(run_with_child("doctor", "train.py", *SHORT, "--json").out) for _ in range(2)]
    for report in reports:
        del report["seconds"]
    assert reports[0] == reports[1] and "PYTHONHASHSEED" not in os.environ


@pytest.mark.slow
def test_workers_of_a_loader_do_not_hang(tmp_path: Path, run_with_child: RunCli) -> None:
    loader = """
loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=8, num_workers=2)
for step, (rows,) in enumerate(batch for epoch in range(100) for batch in loader):
"""
    start, _, rest = LOOP.partition("for step in range(1000):\n")
    write(tmp_path, start + loader + rest.partition("\n")[2])
    done = run_with_child("doctor", "train.py", *SHORT, "--json")
    assert done.code == 0 and json.loads(done.out)["healthy"]


@pytest.mark.slow
def test_loss_that_was_computed_without_gradients_is_named_with_its_line(
    tmp_path: Path, run_with_child: RunCli
) -> None:
    line = next(i for i, text in enumerate(LOOP.splitlines(), 1) if "loss.backward()" in text)
    (tmp_path / "sub").mkdir()
    write(tmp_path / "sub", LOOP.replace("model(x).view", "model(x).detach().view"))
    done = run_with_child("doctor", "sub/train.py", *SHORT, "--json")
    report = json.loads(done.out)
    assert done.code == 1 and report["crashed"] == []
    assert [(f["code"], f["location"]) for f in report["findings"]] == [("detached_loss", f"sub/train.py:{line}")]


def test_script_that_needs_a_gpu_is_told_its_own_argument(tmp_path: Path, run_with_child: RunCli) -> None:
    write(
        tmp_path,
        "import argparse\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--steps')\n"
        "parser.add_argument('--device', default='cuda')\n"
        "if parser.parse_args().device == 'cuda':\n"
        "    raise AssertionError('Torch not compiled with CUDA enabled')\n",
    )
    done = run_with_child("doctor", "train.py", "--", "--steps", "3")
    assert done.code == 2 and "tui-lab doctor train.py -- --steps 3 --device cpu" in done.err
    assert "Traceback" not in done.err


@pytest.mark.slow
def test_optimizer_of_another_model_is_named_with_the_line_that_creates_it(
    tmp_path: Path, run_with_child: RunCli
) -> None:
    line = next(i for i, text in enumerate(LOOP.splitlines(), 1) if "Adam(" in text)
    write(tmp_path, LOOP.replace("data = ", "model = Model()\ndata = "))
    report = json.loads(run_with_child("doctor", "train.py", *SHORT, "--json").out)
    assert [(f["code"], f["location"]) for f in report["findings"]] == [("stale_optimizer", f"train.py:{line}")]


def test_script_whose_arguments_are_missing_is_told_where_they_go(tmp_path: Path, run_with_child: RunCli) -> None:
    code = "import argparse\np = argparse.ArgumentParser()\np.add_argument('data')\np.parse_args()\n"
    write(tmp_path, code)
    done = run_with_child("doctor", "train.py")
    assert done.code == 2 and "tui-lab doctor train.py -- " in done.err


@pytest.mark.slow
def test_only_warnings_and_lines_of_the_script_are_shown(tmp_path: Path, run_with_child: RunCli) -> None:
    warning = "    import warnings; warnings.warn(f'mode {model.training}')\n"
    code = LOOP.replace("        return self.h(", f"    {warning}        return self.h(")
    code += "    F.mse_loss(model.h.weight[:, :1], torch.zeros(V))\n    if step == 8: model(x.float())\n"
    write(tmp_path, code)
    done = run_with_child("doctor", "train.py", *SHORT, "--json")
    assert "mode True" in done.err and "mode False" not in done.err
    line = next(i for i, text in enumerate(code.splitlines(), 1) if "mse_loss" in text)
    assert f"train.py:{line}: UserWarning: Using a target size" in done.err
    assert "Traceback" in done.err and "core/doctor" not in done.err and "core/watch" not in done.err


@pytest.mark.parametrize("stages", [["running the script", "examining"], ["examining"]])
def test_stages_that_were_missed_are_said(stages: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    progress = _Progress(Target("train.py"), Limits(), lambda check: None)
    for stage in stages:
        progress(stage)
        progress(stage)
    lines = filter(None, capsys.readouterr().err.splitlines())
    assert [line.split()[1] for line in lines] == ["running", "examining"]


def test_stage_after_a_progress_bar_has_a_line_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    progress = _Progress(Target("train.py"), Limits(), lambda check: None)
    progress("running the script")
    sys.stderr.write("\r49/50 steps")
    progress("examining")
    *_, bar, stage = capsys.readouterr().err.splitlines()
    assert "49/50" in bar and stage.startswith("doctor:")


@pytest.mark.slow
def test_cause_of_an_error_is_reported_instead_of_the_error(tmp_path: Path, run_with_child: RunCli) -> None:
    line = next(i for i, text in enumerate(LOOP.splitlines(), 1) if "optimizer = " in text)
    code = LOOP.splitlines()
    code.insert(line, "for p in model.parameters(): p.requires_grad_(False)")
    write(tmp_path, "\n".join(code) + "\n")
    done = run_with_child("doctor", "train.py", "--json")
    report = json.loads(done.out)
    assert done.code == 1 and "does not require grad" in report["not_examined"][0]
    assert [(f["code"], f["location"]) for f in report["findings"]] == [("frozen_parameters", f"train.py:{line + 1}")]


@pytest.mark.slow
def test_what_was_found_before_an_interruption_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not run is not judged, and the report is not healthy."""
    monkeypatch.setattr(diagnose, "POLL_SECONDS", 0.01)  # The interruption comes during one of the first checks.
    monkeypatch.chdir(tmp_path)
    write(tmp_path, QUICK_LOOP)

    def interrupt(stage: str) -> None:
        if stage not in (*BEFORE_CHECKS, "examining") and not stage.startswith("update "):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        examine_script(Target("train.py"), Limits(updates=4), interrupt, quiet=True)
    report = caught.value.report
    assert report is not None and report.interrupted and not report.healthy and report.updates == 4
    assert {check.check for check in report.not_judged if check.reason == NOT_RUN} > {"overfit", "loss progress"}
    assert "overfit" not in report.passed and report_from_json(report.to_json()) == report


@pytest.mark.parametrize("so_far", [None, Report(interrupted="interrupted", passed=("forward",))])
@pytest.mark.parametrize("is_json", [False, True])
def test_an_interruption_ends_with_what_is_known(
    so_far: Report | None, is_json: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: RunCli
) -> None:
    def interrupted(*args: object, **kwargs: object) -> Report:
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError

    def examine(*args: object, **kwargs: object) -> Report:
        try:
            return interrupted()
        except KeyboardInterrupt:
            raise Interrupted(so_far, "forward") from None

    monkeypatch.setattr(script_doctor, "examine_script", examine)
    write(tmp_path, "")
    done = run_cli("doctor", "train.py", *(["--json"] if is_json else []))
    assert done.code == of_signal(signal.SIGTERM) and "no problems" not in done.out
    if is_json:
        record = json.loads(done.out)
        assert record["codes"] == ["interrupted"] if so_far is None else record["interrupted"]
    else:
        assert ("forward" in done.out) is (so_far is not None)
