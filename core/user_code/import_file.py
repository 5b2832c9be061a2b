"""A stranger's file: FILE.py:NAME to what stands there, with errors that name the file, line and what is allowed."""

import importlib.util
import inspect
import linecache
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tui_lab.core.config.settings import did_you_mean, is_file
from tui_lab.util.errors import ConfigError


def is_stranger(source: str) -> bool:
    """Whether `source` is written FILE.py:NAME."""
    return ".py:" in source or source.endswith(".py")


def split(source: str) -> tuple[Path, str]:
    """The file, which exists, and the name. Raises ConfigError; the name may be empty."""
    path, _, name = source.rpartition(":") if ".py:" in source else (source, "", "")
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:  # The home of a user who is not there.
        raise ConfigError([f"{path}: {error}"]) from error
    if not is_file(file):
        raise ConfigError([f"{path}: no such file (a stranger's code is given as FILE.py:NAME)"])
    return file, name


def absolute(source: str) -> str:
    """FILE.py:NAME with the file by its whole path, so that it is found from anywhere. Raises ConfigError."""
    file, name = split(source)
    return f"{file.absolute()}:{name}"


FILES = ("data.path", "model.source")
"""Settings that name files of the person's."""


def rooted(key: str, value: Any) -> Any:
    """The value of a setting of FILES by its whole path, which means the same from anywhere. Raises ConfigError."""
    if key == "data.path" and isinstance(value, str) and value != "bundled":
        return str(Path(value).expanduser().absolute())
    return absolute(value) if key == "model.source" and isinstance(value, str) and value else value


def load(source: str, offered: dict[str, Any], watch: Callable[[str], None] = lambda doing: None) -> Any:
    """What FILE.py:NAME gives; a class or function is called with what it takes of `offered`.

    Raises ConfigError. It runs the file: only ever at a person's word. `watch` is told what is being done.
    """
    file, name = split(source)
    watch("reading the file")
    module = _run(file)
    names = [key for key, value in vars(module).items() if not key.startswith("_") and _defined_in(value, module)]
    offers = f"it offers {', '.join(names) or 'none'}"
    if not name:
        raise ConfigError([f"{source}: which name? write {file}:NAME; {offers}"])
    if not hasattr(module, name):
        raise ConfigError([f"{file} has no {name!r}{did_you_mean(name, names)} ({offers})"])
    watch(f"making {name}")
    return _made(getattr(module, name), file, name, offered)


def _run(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("tui_lab_stranger", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        raise ConfigError([f"{file}, line {error.lineno}: not Python: {error.msg}"]) from error
    except (Exception, SystemExit) as error:
        raise ConfigError([_where(error, file, "running it")]) from error
    return module


def _made(thing: Any, file: Path, name: str, offered: dict[str, Any]) -> Any:
    """A class or function called with what it takes; anything else as it is."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return thing
    try:
        takes = inspect.signature(thing).parameters
        return thing(**{key: value for key, value in offered.items() if key in takes})
    except (Exception, SystemExit) as error:
        raise ConfigError([_where(error, file, f"{name}()")]) from error


def _where(error: BaseException, file: Path, doing: str) -> str:
    """What was raised, and in which line of the file."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == file.resolve()]
    line = frames[-1].lineno if frames else None
    place = f"{file}, line {line}" if line else str(file)
    text = linecache.getline(str(file.resolve()), line).strip() if line else ""
    return f"{place}: {doing} raised {type(error).__name__}: {error}" + (f" (in: {text})" if text else "")


def _defined_in(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__
