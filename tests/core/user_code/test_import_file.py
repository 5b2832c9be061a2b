"""FILE.py:NAME is imported as `python FILE.py` would, and its errors name the user's file and line."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tui_lab.core.user_code.import_file import load
from tui_lab.util.errors import ConfigError


@pytest.fixture(autouse=True)
def own_modules(tmp_path: Path) -> Iterator[None]:
    """Modules that a test's files import are forgotten after it."""
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with sub/model.py; both have a project_where.py."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "project_where.py").write_text("PLACE = 'current folder'\n", "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(file: Path, text: str) -> Path:
    file.write_text(text, "utf-8")
    return file


def test_import_prefers_the_files_folder_to_the_current_one(project: Path) -> None:
    write(project / "sub" / "model.py", "from project_where import PLACE\n")
    assert load("sub/model.py:PLACE", {}) == "current folder"
    del sys.modules["project_where"]
    write(project / "sub" / "project_where.py", "PLACE = 'folder of the file'\n")
    assert load("sub/model.py:PLACE", {}) == "folder of the file"


def test_import_hides_installed_modules_only_while_the_file_is_imported(project: Path) -> None:
    """A project's own module wins over an installed one in its own imports, and never in ours."""
    write(project / "sub" / "this.py", "MINE = True\n")
    write(project / "sub" / "model.py", "def make():\n    import this\n    return this.MINE\n")
    before = list(sys.path)
    assert load("sub/model.py:make", {}) is True
    assert sys.path == [*before, str(project / "sub"), str(project)]
    load("sub/model.py:make", {})
    assert sys.path == [*before, str(project / "sub"), str(project)]


def test_imports_inside_functions_work_after_loading(project: Path) -> None:
    write(project / "sub" / "project_late.py", "VALUE = 3\n")
    write(
        project / "sub" / "model.py",
        "def _late():\n    import project_late\n    return project_late.VALUE\nlate = [_late]\n",
    )
    assert load("sub/model.py:late", {})[0]() == 3


def test_user_code_may_change_sys_path(project: Path) -> None:
    write(project / "sub" / "model.py", "import sys\nsys.path.insert(0, 'elsewhere')\nVALUE = 1\n")
    load("sub/model.py:VALUE", {})
    assert sys.path[0] == "elsewhere"


@pytest.mark.parametrize("name", ["AT_IMPORT", "when_called"])
def test_sys_argv_has_the_files_path_only(name: str, project: Path) -> None:
    write(
        project / "model.py", "import sys\nAT_IMPORT = list(sys.argv)\ndef when_called():\n    return list(sys.argv)\n"
    )
    before = sys.argv
    assert load(f"model.py:{name}", {}) == ["model.py"]
    assert sys.argv is before


@pytest.mark.parametrize(
    ("text", "name", "place"),
    [
        ("def f(:\n", "x", "{file}, line 1"),
        ("x = 1\nimport project_broken\n", "x", "{broken}, line 2"),
        ("def x():\n    import project_broken\n", "x", "{broken}, line 2"),
        ("x = 1\nimport nothing_of_that_name\n", "x", "{file}, line 2"),
        ("import sys\nsys.exit(4)\n", "x", "{file}, line 2"),
        ("def x():\n    return {}['nothing']\n", "x", "{file}, line 2"),
        ("x = 1\ncompile('def f(:', 'no file', 'exec')\n", "x", "{file}, line 2"),
    ],
)
def test_error_names_the_file_and_line_where_it_is(text: str, name: str, place: str, project: Path) -> None:
    broken = write(project / "project_broken.py", "\ndef f(:\n")
    file = write(project / "model.py", text)
    with pytest.raises(ConfigError) as raised:
        load(f"{file}:{name}", {})
    [problem] = raised.value.problems
    assert problem.code == "user_code" and problem.message.startswith(place.format(file=file, broken=broken))


@pytest.mark.parametrize(
    ("source", "code", "suggestion"),
    [
        ("model.py:mkae", "unknown_name", "make"),
        ("model.py", "missing", ""),
        ("nowhere.py:make", "not_found", ""),
        ("~nobody-of-this-name/model.py:make", "not_found", ""),
    ],
)
def test_unusable_source_is_a_config_error(source: str, code: str, suggestion: str, project: Path) -> None:
    write(project / "model.py", "import os\ndef make():\n    pass\ndef _hidden():\n    pass\n")
    with pytest.raises(ConfigError) as raised:
        load(source, {})
    [problem] = raised.value.problems
    assert (problem.code, problem.suggestion) == (code, suggestion)
    assert problem.allowed in ("make", "FILE.py:NAME", "")


def test_callable_receives_the_arguments_that_it_accepts(project: Path) -> None:
    write(project / "model.py", "def make(n_vocab, *, dropout=0.0):\n    return n_vocab, dropout\n")
    assert load("model.py:make", {"n_vocab": 5, "context": 3}) == (5, 0.0)


def test_global_generators_are_seeded_before_the_import_and_before_the_call(project: Path) -> None:
    write(
        project / "model.py",
        "import random\nimport numpy\nimport torch\n"
        "def draw():\n    return random.random(), numpy.random.rand(), float(torch.rand(1))\n"
        "AT_IMPORT = draw()\n",
    )
    first = load("model.py:AT_IMPORT", {})
    torch.rand(3)
    assert load("model.py:AT_IMPORT", {}) == first == load("model.py:draw", {})


def test_class_that_needs_arguments_is_a_config_error_with_the_next_step(project: Path) -> None:
    write(
        project / "model.py",
        "class Args:\n    pass\nclass GPT:\n    def __init__(self, params: Args, n: int):\n        pass\n",
    )
    with pytest.raises(ConfigError) as raised:
        load("model.py:GPT", {"n": 3})
    [problem] = raised.value.problems
    assert problem.code == "missing" and "from model import GPT, Args" in problem.message
    assert "def model(): return GPT(params=Args(…))" in problem.message


def test_file_that_trains_when_imported_is_sent_to_the_script_doctor(project: Path) -> None:
    write(
        project / "train.py",
        "import torch\nmodel = torch.nn.Linear(2, 2)\nopt = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "while True:\n    model(torch.ones(1, 2)).sum().backward()\n    opt.step()\n",
    )
    with pytest.raises(ConfigError) as raised:
        load("train.py:model", {})
    assert "tui-lab doctor train.py" in raised.value.problems[0].message


def test_file_of_a_package_may_use_relative_imports(project: Path) -> None:
    package = project / "sub" / "project_package"
    package.mkdir()
    write(package / "__init__.py", "")
    write(package / "parts.py", "VALUE = 5\n")
    write(package / "model.py", "from .parts import VALUE\nfrom project_package.parts import VALUE as same\n")
    assert load("sub/project_package/model.py:VALUE", {}) == 5


def test_module_of_a_folder_above_is_named_with_that_folder(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project / "project_namespace"
    folder.mkdir()
    write(folder / "parts.py", "VALUE = 5\n")
    write(folder / "model.py", "from project_namespace.parts import VALUE\n")
    write(folder / "relative.py", "from .parts import VALUE\n")
    monkeypatch.chdir(project / "sub")
    for name in ("model", "relative"):
        with pytest.raises(ConfigError) as raised:
            load(f"../project_namespace/{name}.py:VALUE", {})
        assert str(project) in raised.value.problems[0].message
