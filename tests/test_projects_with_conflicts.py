"""tui-lab in projects whose files are named like its own packages, its libraries or modules of Python."""

from pathlib import Path

import pytest

from tests.process import TINY
from tui_lab.core.config import settings
from tui_lab.core.doctor.diagnose import examine_config_in_child, examine_in_child
from tui_lab.core.runs.sweep.folder import create
from tui_lab.core.runs.sweep.plan import plan
from tui_lab.sweep.local import Worker

NAMES = ("data", "core", "torch", "rich", "model", "tests", "json")
"""Each of these files, planted in the current folder, leaves a mark when it is executed."""


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is on PYTHONPATH too, with files that nobody named."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in NAMES:
        (folder / f"{name}.py").write_text("open(__file__ + '.executed', 'w').close()\n", "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", ".")
    return folder


def executed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.executed"))


def test_doctor_child_executes_only_the_named_file(planted: Path) -> None:
    config = settings.load("reverse", TINY[1::2])
    assert examine_config_in_child(config, lambda check: None).crashed == ()
    (planted / "named.py").write_text("from torch import nn\nmodel = nn.Embedding(5, 5)\n", "utf-8")
    examine_in_child("named.py:model", timeout=120)
    assert executed(planted) == []


def test_sweep_worker_executes_no_file_of_the_current_folder(planted: Path) -> None:
    overrides = [*TINY[1::2], "train.steps=2"]
    sweep = create(plan("reverse", overrides, ["train.seed=1"], {}), planted / "sweep")
    worker = Worker(sweep)
    worker.process.wait()
    assert worker.close() == ""
    assert sweep.result(0) is not None and executed(planted) == []
