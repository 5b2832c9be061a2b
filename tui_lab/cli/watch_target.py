"""What `tui-lab watch` and other commands refuse before they start a script: what Python could not run."""

import contextlib
import importlib.util
import os
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from tui_lab.core.watch.process.script_process import Target
from tui_lab.util.errors import ConfigError, nearest

_PYTHON_FILES = (".py", ".pyw", ".pyc")
_NOTEBOOK_HINT = "in a notebook use: import tui_lab; run = tui_lab.watch()"


def check(target: Target) -> None:
    """Raise ConfigError for a target that Python could not run."""
    if target.is_module:
        _check_module(target.script)
    else:
        _check_script(target.script)


def _check_script(script: str) -> None:
    path = Path(script)
    if path.is_dir():
        if (path / "__main__.py").is_file():
            return
        names = _python_files(path)
        raise ConfigError.of(
            "invalid",
            "is a folder; give the script in it",
            value=script,
            suggestion=str(path / (nearest("train.py", names) or names[0])) if names else "",
        )
    if not path.exists():
        folder = path.parent if path.parent.is_dir() else Path()
        similar = nearest(path.name, _python_files(folder))
        raise ConfigError.of(
            "not_found", "no such file", value=script, suggestion=str(folder / similar) if similar else ""
        )
    if path.suffix not in _PYTHON_FILES and path.is_file() and not _is_python(path):
        hint = f"; {_NOTEBOOK_HINT}" if path.suffix == ".ipynb" else ""
        raise ConfigError.of("invalid", f"is not a Python script{hint}", value=script)


def _is_python(path: Path) -> bool:
    """Return whether a file with another suffix than .py is Python: it begins with #! and python, or it compiles."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError.of("unreadable", str(error.strerror), value=str(path)) from error
    if content.startswith(b"#!") and b"python" in content.partition(b"\n")[0]:
        return True
    if path.suffix in (".ipynb", ".json"):
        return False
    try:
        compile(content, path, "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _check_module(name: str) -> None:
    """Look for the module without importing anything: the packages' code must run once, in the watched process."""
    top, *rest = name.split(".")
    spec = _spec(top)
    if spec is None:
        names = _modules_in([os.getcwd()])
        raise ConfigError.of("not_found", "no such module", key="-m", value=name, suggestion=nearest(top, names))
    parent = top
    for part in rest:
        found = PathFinder.find_spec(f"{parent}.{part}", spec.submodule_search_locations or [])
        if found is None:
            similar = nearest(part, _modules_in(spec.submodule_search_locations or []))
            suggestion = f"{parent}.{similar}" if similar else ""
            raise ConfigError.of(
                "not_found", f"{parent} has no module {part}", key="-m", value=name, suggestion=suggestion
            )
        spec = found
        parent = f"{parent}.{part}"
    locations = spec.submodule_search_locations
    if locations is not None and PathFinder.find_spec(f"{name}.__main__", locations) is None:
        names = _modules_in(locations)
        suggestion = f"{name}.{nearest('train', names) or names[0]}" if names else ""
        raise ConfigError.of(
            "invalid", "is a package without __main__; give a module in it", key="-m", value=name, suggestion=suggestion
        )


def _spec(name: str) -> ModuleSpec | None:
    """Return the spec of a top-level module, as `python -m` in this folder finds it."""
    spec = PathFinder.find_spec(name, [os.getcwd()])
    if spec is None or spec.origin is None:
        with contextlib.suppress(ValueError):  # A module without a spec, as __main__.
            spec = importlib.util.find_spec(name) or spec
    return spec


def _python_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.py") if path.name != "__init__.py")


def _modules_in(folders: Iterable[str]) -> list[str]:
    """Return the names of the modules and packages in these folders."""
    paths = [path for folder in folders if os.path.isdir(folder) for path in Path(folder).iterdir()]
    modules = {path.stem for path in paths if path.suffix == ".py"}
    packages = {path.name for path in paths if path.is_dir() and any(path.glob("*.py"))}
    return sorted((modules | packages) - {"__init__", "__main__"})
