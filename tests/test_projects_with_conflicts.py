"""tui-lab in projects whose files are named like its own packages, its libraries or modules of Python."""

import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from tests.process import TINY
from tui_lab.core.doctor.diagnose import examine_in_child
from tui_lab.core.runs.sweep.folder import create_sweep
from tui_lab.core.runs.sweep.plan import plan
from tui_lab.sweep.local import Worker
from tui_lab.util.child import child_environment

REPOSITORY = Path(__file__).parents[1]
PROJECT = {
    "data.py": """
import torch
from core import N_VOCAB

def get_batch(step):
    tokens = torch.randint(0, N_VOCAB, (4, 17), generator=torch.Generator().manual_seed(step))
    return tokens[:, :-1], tokens[:, 1:]
""",
    "utils.py": """
import torch
from torch import nn

def initialize(module):
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, 0.0, 0.1, generator=generator)
    return module
""",
    "core/__init__.py": "N_VOCAB = 11\nfrom core.layers import Mean\n",
    "core/layers.py": """
import torch
from torch import nn
from utils import initialize

class Mean(nn.Module):
    def forward(self, e):
        return e.cumsum(dim=1) / torch.arange(1, e.shape[1] + 1)[:, None]
""",
    "model.py": """
import torch
from torch import nn
from core import Mean, N_VOCAB
from core.layers import initialize

class GPT(nn.Module):
    def __init__(self, n_vocab=N_VOCAB):
        super().__init__()
        self.tokens, self.mean = nn.Embedding(n_vocab, 16), Mean()
        self.mix, self.head = nn.Linear(16, 32), nn.Linear(32, n_vocab)
        initialize(self)
    def forward(self, x):
        e = self.tokens(x)
        return self.head(torch.tanh(self.mix(e + self.mean(e))))
""",
    "train.py": """
import tui_lab
import torch
from data import get_batch
from model import GPT

def case():
    from tui_lab import Case
    model = GPT()
    return Case(model, get_batch, optimizer=torch.optim.Adam(model.parameters(), lr=3e-3))

if __name__ == "__main__":
    report = tui_lab.examine(case())
    print(report.healthy, [finding.code for finding in report.findings])
""",
    "tests/__init__.py": "",
    "tests/test_train.py": """
import core, data, utils
from tui_lab import Case, examine
from model import GPT

def test_model():
    assert data.get_batch(0)[0].max() < core.N_VOCAB
    assert examine(Case(utils.initialize(GPT()), data.get_batch)).healthy
""",
}
PLANTED = ("data", "core", "torch", "rich", "model", "tests", "json")
"""Names of files that leave a mark when they are executed."""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the repository, so that no earlier build adds files to it."""
    copy = tmp_path_factory.mktemp("repository")
    for name in ("core", "data", "tui_lab"):
        shutil.copytree(REPOSITORY / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", "dist", "."]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    [file] = (copy / "dist").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, and with the dependencies of this one but not its tui_lab."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    [site_packages] = folder.glob("lib/python*/site-packages")
    # .pth files of a folder that a .pth file names are not read, so an editable install there has no effect.
    (site_packages / "dependencies.pth").write_text(str(Path(torch.__file__).parents[1]) + "\n", "utf-8")
    where = subprocess.check_output([python, "-P", "-c", "import tui_lab; print(tui_lab.__file__)"], text=True, cwd="/")
    assert Path(where.strip()).is_relative_to(folder)
    return folder / "bin"


@pytest.fixture(scope="module")
def in_project(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run a program of the environment in the project; return its output and fail unless it ends with code 0."""
    folder = tmp_path_factory.mktemp("project")
    for name, text in PROJECT.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    variables = child_environment(TUI_LAB_CACHE=str(folder / ".cache"), PYTHONPATH="")

    def run(program: str, *arguments: str) -> str:
        command = [str(environment / program), *arguments]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_wheel_has_plain_files_in_one_package(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        entries = archive.infolist()
    assert {entry.filename.split("/")[0] for entry in entries if ".dist-info/" not in entry.filename} == {"tui_lab"}
    assert all(entry.external_attr >> 28 in (0, 0o10) for entry in entries), "regular files, no links"
    names = {entry.filename for entry in entries}
    assert {"tui_lab/core/model.py", "tui_lab/data/loader.py", "tui_lab/py.typed"} <= names
    lessons = [path for path in (REPOSITORY / "core" / "lessons" / "builtin").rglob("*.*") if path.is_file()]
    assert {f"tui_lab/{path.relative_to(REPOSITORY)}" for path in lessons if path.suffix != ".pyc"} <= names


def test_doctor_diagnoses_a_case_of_the_project(in_project: Callable[..., str]) -> None:
    assert '"healthy": true' in in_project("tui-lab", "doctor", "train.py:case", "--json")


def test_run_trains_a_model_of_the_project(in_project: Callable[..., str]) -> None:
    in_project("tui-lab", "run", "reverse", *TINY, "--set", "model.source=model.py:GPT", "--steps", "3", "--quiet")


def test_projects_tests_use_the_doctor(in_project: Callable[..., str]) -> None:
    in_project("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly")


@pytest.mark.slow
def test_projects_script_imports_tui_lab(in_project: Callable[..., str]) -> None:
    assert in_project("python", "train.py") == "True []\n"


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which is on PYTHONPATH too, with files that nobody named."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in PLANTED:
        (folder / f"{name}.py").write_text("open(__file__ + '.executed', 'w').close()\n", "utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", ".")
    return folder


def executed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.executed"))


def test_doctor_child_executes_only_the_named_file(planted: Path) -> None:
    (planted / "named.py").write_text("from torch import nn\nmodel = nn.Embedding(5, 5)\n", "utf-8")
    examine_in_child("named.py:model", timeout=120)
    assert executed(planted) == []


def test_sweep_worker_executes_no_file_of_the_current_folder(planted: Path) -> None:
    overrides = [*TINY[1::2], "train.steps=2"]
    sweep = create_sweep(plan("reverse", overrides, ["train.seed=1"], {}), planted / "sweep")
    worker = Worker(sweep)
    worker.process.wait()
    assert worker.close() == ""
    assert sweep.result(0) is not None and executed(planted) == []
