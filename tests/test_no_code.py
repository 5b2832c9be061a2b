"""Nothing that is read can become code: no pickle, no eval, no shell, in any file of the packages."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for package in ("core", "data", "tui_lab") for path in (ROOT / package).rglob("*.py"))
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop"}
NAMES = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
    ("torch", "load"), ("torch", "save"), ("np", "load"), ("numpy", "load"), ("os", "system"), ("os", "popen"),
    ("torch", "jit"), ("pd", "read_pickle"), ("yaml", "load"), ("yaml", "unsafe_load"),
}  # fmt: skip
RUNS_A_FILE = "core/user_code/import_file.py"
"""The one place where a file becomes code, and only one that the person has named."""


def findings(source: str) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                found += [name.name for name in names if name.name.partition(".")[0] in MODULES]
            case ast.ImportFrom(module=str(module), names=names):
                found += [module] if module.partition(".")[0] in MODULES else []
                found += [f"{module}.{n.name}" for n in names if (module.partition(".")[0], n.name) in ATTRIBUTES]
            case ast.Call(func=ast.Name(id=name)) if name in NAMES:
                found.append(name)
            case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in ATTRIBUTES:
                found.append(f"{owner}.{name}")
            case ast.Attribute(attr="exec_module"):
                found.append("exec_module")
            case ast.keyword(arg="shell", value=ast.Constant(value=True)):
                found.append("shell=True")
            case ast.keyword(arg="allow_pickle", value=ast.Constant(value=True)):
                found.append("allow_pickle=True")
    return found


@pytest.mark.parametrize(
    "source",
    ["import pickle", "from pickle import loads", "eval('1')", "exec(x)", "torch.load(f)", "from torch import load",
     "np.load(f)", "subprocess.run(c, shell=True)", "spec.loader.exec_module(m)", "import marshal as m",
     "np.frombuffer(x, allow_pickle=True)", "__import__(name)"],
)  # fmt: skip
def test_each_way_of_running_what_was_read_is_seen(source: str) -> None:
    assert findings(source)


def test_no_package_has_any_of_them() -> None:
    assert len(FILES) > 80
    found = {str(path.relative_to(ROOT)): findings(path.read_text("utf-8")) for path in FILES}
    assert {path: what for path, what in found.items() if what} == {RUNS_A_FILE: ["exec_module"]}
