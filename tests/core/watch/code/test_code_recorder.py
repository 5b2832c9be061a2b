"""The code that is kept of a script: which files, within which limits, and never at the expense of the script."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from types import ModuleType

import pytest

from tui_lab.core import events as ev
from tui_lab.core.runs.code import CODE_VARIABLE, MOST_FILES, RecordedCode, read_code, read_source
from tui_lab.core.runs.delete import removable
from tui_lab.core.runs.folder import Run
from tui_lab.core.watch.code.code_recorder import CodeRecorder
from tui_lab.core.watch.code.executed_files import names_in_code
from tui_lab.core.watch.event_writer import Job
from tui_lab.core.watch.recording import Recording
from tui_lab.runs.code_text import recorded_code_text

HEADLESS = [sys.executable, "-m", "tui_lab", "watch", "--headless", "--out"]
MODEL = """
import torch

class Model(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 4)
"""
TRAIN = """
import torch
from parts.model import Model

torch.manual_seed(0)
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(8, 4)).square().mean()
    loss.backward()
    optimizer.step()
    print(loss.item())
import late
print(sorted(model.state_dict()["weight"].flatten().tolist()))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A script with a package of its own and a module that it imports after its training."""
    folder = tmp_path / "project"
    (folder / "parts").mkdir(parents=True)
    (folder / "parts" / "__init__.py").write_text("")
    (folder / "parts" / "model.py").write_text(MODEL)
    (folder / "late.py").write_text("LATE = True\n")
    (folder / "unused.py").write_text("")
    (folder / ".env.py").write_text("KEY = 'secret'\n")
    (folder / "train.py").write_text(TRAIN)
    return folder


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def watch(folder: Path, *arguments: str, expected: bytes | None = None, **variables: str) -> Run:
    """The run of a script in `folder`. expected: its stdout."""
    out = folder.parent / "run"
    command = [*HEADLESS, str(out), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment() | variables, capture_output=True, check=True)
    assert expected is None or done.stdout == expected
    return Run(out)


def printed(folder: Path) -> bytes:
    return subprocess.run([sys.executable, "train.py"], cwd=folder, capture_output=True, check=True).stdout


def code_of(run: Run) -> RecordedCode:
    code = read_code(run.path)
    assert code is not None
    return code


def warnings(run: Run) -> list[str]:
    return [event.message for event in run.events() if isinstance(event, ev.Warned)]


@pytest.mark.slow
def test_script_and_its_modules_are_kept_and_its_results_do_not_change(project: Path) -> None:
    run = watch(project, "train.py", expected=printed(project))
    code = code_of(run)
    assert {file.path for file in code.files} == {"train.py", "parts/__init__.py", "parts/model.py", "late.py"}
    assert (code.main, code.git, code.left_out) == ("train.py", None, ())
    for file in code.files:
        content = (project / file.path).read_bytes()
        assert read_source(run.path, file) == content.decode()
        assert (file.sha256, file.bytes) == (sha256(content).hexdigest(), len(content))
    assert warnings(run) == []
    assert removable(run.path) == run.path.resolve(), "the code belongs to the run folder"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    command = ["git", *identity, "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, check=True, text=True).stdout.strip()


@pytest.mark.slow
def test_module_in_a_git_repository(project: Path) -> None:
    """`python -m` from a folder below the work tree: paths are relative to the work tree."""
    root = project.parent
    git(root, "init", "-q", "-b", "trunk")
    git(root, "add", "project")
    git(root, "commit", "-q", "-m", "first")
    (project / "late.py").write_text("LATE = False\n")
    code = code_of(watch(project, "-m", "train"))
    assert code.git is not None
    assert (code.git.commit, code.git.branch, code.git.is_dirty) == (git(root, "rev-parse", "HEAD"), "trunk", True)
    assert code.main == "project/train.py" and "project/parts/model.py" in {file.path for file in code.files}
    assert recorded_code_text(code) == f"train.py and 3 other files, git {code.git.commit[:7]} with changes"


def test_nothing_is_kept_where_the_user_does_not_want_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for value, is_kept in (("off", False), ("on", True)):
        monkeypatch.setenv(CODE_VARIABLE, value)
        recording = Recording.start("test", ["test.py"], tmp_path / value)
        recording.end()
        assert (read_code(recording.run.path) is not None) == (recording.run.path / "code").exists() == is_kept


CONFIGURATOR = "import sys\nexec(open(sys.argv[1]).read())\n"
"""As in nanoGPT: the script executes it, and it executes what the command line names."""


@pytest.mark.parametrize("below", [False, True])
def test_files_that_are_executed_by_name_are_kept(below: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """below: whether the current folder is that of the script or the one above it."""
    folder = tmp_path / "project"
    (folder / "config").mkdir(parents=True)
    (folder / "train.py").write_text("exec(open('configurator.py').read())\n# exec(open('unused.py').read())\n")
    (folder / "configurator.py").write_text(CONFIGURATOR)
    for name in ("config/small.py", "config/other.py", "unused.py", "data.txt", "../outside.py"):
        (folder / name).write_text("")
    prefix = "" if below else "project/"
    monkeypatch.chdir(folder if below else tmp_path)
    arguments = ["config/small.py", "--extra=config/other.py", "data.txt", "../outside.py", "gone.py", "config"]
    monkeypatch.setattr(
        sys, "argv", ["train.py", *(argument.replace("config/", f"{prefix}config/") for argument in arguments)]
    )
    main = ModuleType("__main__")
    main.__file__ = str(folder / "train.py")
    monkeypatch.setitem(sys.modules, "__main__", main)
    jobs: list[ev.Event | Job] = []
    recorder = CodeRecorder(tmp_path / "run", jobs.append)
    recorder.update()
    recorder.update()
    [job] = jobs
    (tmp_path / "run").mkdir()
    assert not isinstance(job, ev.Event) and job() is None
    code = read_code(tmp_path / "run")
    assert code is not None
    assert [file.path for file in code.files] == ["train.py", "config/small.py", "config/other.py", "configurator.py"]


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("exec(compile(open('a.py').read(), 'a.py', 'exec'))", ["a.py"]),
        ('    runpy.run_path(\n        os.path.join(here, "b/c.py"))', ["b/c.py"]),
        ("exec(open('a.py').read()); exec(open('b.py').read())  # exec(open('c.py').read())", ["a.py", "b.py"]),
        ("spec = spec_from_file_location('m', 'm.py')", ["m.py"]),
        ("open('a.py'); cursor.execute('b.py'); exec(text)", []),
    ],
)
def test_names_of_executed_files(code: str, names: list[str]) -> None:
    assert list(names_in_code(code.encode())) == names


IN_CODE = """
import os, sys, types
import torch
import big, gone

os.mkdir({folder!r} + "/.cache")
names = ["torch.generated", ".cache/hidden", *(f"many{{i}}" for i in range({n}))]
for name in names:
    module = types.ModuleType(name)
    module.__file__ = {folder!r} + f"/{{name}}.py"
    open(module.__file__, "w").close()
    sys.modules[name] = module

class Strange(types.ModuleType):
    def __getattr__(self, name):
        raise RuntimeError("read me not")

sys.modules["strange"] = Strange("strange")
import tui_lab
run = tui_lab.watch(torch.nn.Linear(1, 1), name="x", out={out!r})
run.step(loss=1.0)
run.close()
print("done")
"""


@pytest.mark.slow
def test_limits_and_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is gone stands for one without permission, which root could read."""
    (tmp_path / "big.py").write_text("#" * 300_000)
    (tmp_path / "gone.py").write_text("import os\nos.remove(__file__)\n")
    out = tmp_path / "run"
    (tmp_path / "train.py").write_text(IN_CODE.format(n=MOST_FILES + 3, folder=str(tmp_path), out=str(out)))
    done = subprocess.run(
        [sys.executable, "train.py"], cwd=tmp_path, env=environment(), capture_output=True, check=True
    )
    assert done.stdout == b"done\n"
    code = code_of(Run(out))
    assert len(code.files) == MOST_FILES
    assert all(file.path == "train.py" or file.path.startswith("many") for file in code.files)
    reasons = {left.path: left.reason for left in code.left_out}
    assert {"big.py", "gone.py"} < reasons.keys() and len(reasons) == 6
    [warning] = warnings(Run(out))
    assert "gone.py" in warning


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_gives_one_warning(project: Path) -> None:
    """A file in the place of code/ stands for a full disk."""
    script = project / "train.py"
    before = "import pathlib\npathlib.Path('../run/code').write_text('taken')\n"
    script.write_text(before + TRAIN)
    run = watch(project, "train.py")
    assert len(warnings(run)) == 1 and len([event for event in run.events() if isinstance(event, ev.StepDone)]) == 3


def test_paths_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    run = tmp_path / "run"
    (run / "code").mkdir(parents=True)
    for path in ("../../secret", "/etc/passwd", ""):
        info = {"files": [{"path": path, "sha256": "", "bytes": 1}]}
        (run / "code.json").write_text(json.dumps(info))
        assert read_code(run) is None
    (run / "code" / "link.py").symlink_to(tmp_path / "secret")
    (run / "code.json").write_text(json.dumps({"files": [{"path": "link.py", "sha256": "", "bytes": 1}]}))
    code = read_code(run)
    assert code is not None and read_source(run, code.files[0]) is None
