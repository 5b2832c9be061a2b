"""The plug-in of examples/, as `run`, `doctor`, `sweep`, `watch` and the app use it, and by its own tests."""

import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.plugin_packages import Install
from tests.process import Cli
from tui_lab.core.doctor.monitors import Monitors
from tui_lab.core.runs.folder import Run

EXAMPLE = Path(__file__).parents[1] / "examples" / "plugin"
CONFIG = EXAMPLE / "addition.toml"
SMALL = tuple(
    word
    for setting in ("d_model=16", "n_layers=1", "n_heads=2", "d_head=8", "d_ff=16")
    for word in ("--set", f"model.{setting}")
)
SCRIPT = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(4, 8), nn.Linear(8, 4))
optimizer = torch.optim.SGD(model.parameters(), lr=1e-6)
for step in range(220):
    x = torch.randint(0, 4, (8, 12))
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), torch.zeros(96, dtype=torch.int64))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
"""Its targets are all the same, and its loss does not fall."""


@pytest.fixture
def example(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example as if it were installed, with the entry points of its pyproject.toml."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text("utf-8"))["project"]
    groups = {
        group.removeprefix("tui_lab."): "\n".join(f"{name} = {target}" for name, target in entries.items())
        for group, entries in project["entry-points"].items()
    }
    folder = install(project["name"], project["version"], **groups)
    (folder / "tui_lab_addition.py").unlink()
    (folder / "tui_lab_addition").symlink_to(EXAMPLE / "src" / "tui_lab_addition", target_is_directory=True)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("example")
def test_a_run_uses_its_task_and_tokenizer(run_cli: RunCli, tmp_path: Path) -> None:
    done = run_cli("run", CONFIG, "--steps", "2", "--out", "run", "--json", *SMALL)
    assert done.code == 0 and json.loads(done.out.splitlines()[-1])["n_vocab"] == 12
    assert Run(tmp_path / "run").tokenizer().name == "letters"


@pytest.mark.slow
@pytest.mark.usefixtures("example")
def test_its_own_tests_pass() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLE / "tests")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "5 passed" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("example")
def test_the_processes_of_the_doctor_and_of_a_sweep_use_it(cli: Cli, tmp_path: Path) -> None:
    doctor = cli("doctor", str(CONFIG), "--json", *SMALL)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    report = json.loads(doctor.stdout)
    assert "frequent-target" in report["passed"] and report["crashed"] == []
    sweep = cli("sweep", str(CONFIG), "--over", "data.options.digits=1,2", "--steps", "2", "--out", "sweep", *SMALL)
    assert sweep.returncode == 0, sweep.stderr
    tables = [tomllib.loads(path.read_text("utf-8")) for path in (tmp_path / "sweep").rglob("config.toml")]
    assert sorted(table["data"]["options"]["digits"] for table in tables) == [1, 2]


@pytest.mark.slow
@pytest.mark.usefixtures("example")
def test_a_script_is_examined_and_watched_by_it(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(SCRIPT, "utf-8")
    report = json.loads(cli("doctor", "train.py", "--json").stdout)
    assert "frequent-target/one_token" in [hint["code"] for hint in report["hints"]]
    assert cli("watch", "--headless", "--out", "run", "train.py").returncode == 0
    monitors = Monitors()
    hints = [hint for event in Run(tmp_path / "run").events() for hint in monitors.update(event)]
    assert "slow-start/slow_start" in [str(hint.code) for hint in hints]
