"""Imports user code: `FILE.py:NAME` → the object of that name. Errors name the user's file and line.

sys.path is the same for every command. While the file is imported and NAME is called, the file's folder and then the
current folder come first, as the project's own imports expect. Afterwards both stay at the end of sys.path: imports
inside the user's functions still work, and no file of the project can replace a module that tui-lab imports later.
Nothing is added before user code is needed, so the modules that tui-lab itself needs are loaded by then.
"""

import builtins
import importlib
import importlib.util
import inspect
import linecache
import random
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

from tui_lab.core.config.settings import is_file
from tui_lab.core.user_code.missing_resource import missing_resource, next_step
from tui_lab.util.errors import ConfigError, nearest

_PATHS = [sysconfig.get_paths()[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
LIBRARIES = ("<frozen", *_PATHS, str(Path(__file__).parents[2]))
"""How the paths of code begin that is not the user's: Python's own, installed packages, tui-lab."""
MODULE = "tui_lab_user_code"
"""The name under which a file is imported."""
MAX_FOLDERS_ABOVE = 5
PATH_SETTINGS = ("data.path", "model.source")
"""Settings that name files of the user."""


def is_user_code(source: str) -> bool:
    """Return whether `source` has the form FILE.py:NAME, or FILE.py with the name missing."""
    return ".py:" in source or source.endswith(".py")


def split_source(source: str) -> tuple[Path, str]:
    """Split FILE.py:NAME into the file and the name, which may be empty. Raises ConfigError if the file is missing."""
    path, _, name = source.rpartition(":") if ".py:" in source else (source, "", "")
    try:
        file = Path(path).expanduser()
    except RuntimeError as error:  # The home folder of an unknown user.
        raise ConfigError.of("not_found", str(error), value=path) from error
    if not is_file(file):
        raise ConfigError.of("not_found", "no such file", value=path, allowed="FILE.py:NAME")
    return file, name


def absolute_source(source: str) -> str:
    """Return FILE.py:NAME with the file's absolute path. Raises ConfigError if there is no such file."""
    file, name = split_source(source)
    return f"{file.absolute()}:{name}"


def absolute_setting(key: str, value: Any) -> Any:
    """Return the value of one of PATH_SETTINGS with an absolute path; other values unchanged. Raises ConfigError."""
    if key == "data.path" and isinstance(value, str) and value != "bundled":
        return str(Path(value).expanduser().absolute())
    return absolute_source(value) if key == "model.source" and isinstance(value, str) and value else value


def load(
    source: str,
    arguments: dict[str, Any],
    progress: Callable[[str], None] = lambda doing: None,
    *,
    seed: int = 0,
) -> Any:
    """Import FILE.py and return NAME; a class or function is called with those of `arguments` that it accepts.

    This runs the file, so the user must have named it. `progress` receives what is being done. `seed` sets the global
    generators of Python, NumPy and torch before the import and before the call. Raises ConfigError.
    """
    file, name = split_source(source)
    seed_everything(seed)
    with _project_paths(file):
        progress("importing the file")
        module = _import(file)
        names = [key for key, value in vars(module).items() if not key.startswith("_") and _defined_in(value, module)]
        if not name:
            raise ConfigError.of("missing", "add :NAME", value=source, allowed=", ".join(names))
        if not hasattr(module, name):
            raise ConfigError.of(
                "unknown_name",
                f"{file} does not define this name",
                value=name,
                allowed=", ".join(names),
                suggestion=nearest(name, names),
            )
        progress(f"calling {name}")
        seed_everything(seed)
        return _called(getattr(module, name), file, name, arguments)


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch: user code may draw from any of them."""
    import numpy as np

    from tui_lab.core.kernels.device import seed_all_devices

    random.seed(seed)
    np.random.seed(seed % 2**32)
    seed_all_devices(seed)


@contextmanager
def _project_paths(file: Path) -> Iterator[None]:
    """Import as `python FILE.py` does: sys.path starts with its folder, then the current one; sys.argv has its path."""
    folders = [str(file.resolve().parent)]
    with suppress(FileNotFoundError):  # The current folder was deleted.
        folders.append(str(Path.cwd()))
    if package := _module_name(file)[1]:
        folders.append(str(file.resolve().parents[package.count(".") + 1]))
    folders = list(dict.fromkeys(folders))
    argv = sys.argv
    sys.path[:0] = folders
    sys.argv = [str(file)]
    try:
        yield
    finally:
        sys.argv = argv
        for folder in folders:
            # User code may have changed sys.path too: its changes stay.
            if folder in sys.path:
                sys.path.remove(folder)
            if folder not in sys.path:
                sys.path.append(folder)


class _Trains(BaseException):
    """Raised at an optimizer's first step while a file is imported."""


def _import(file: Path) -> ModuleType:
    name, package = _module_name(file)
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses and pickle look the module up by its name.
    sys.modules[spec.name] = module
    try:
        with _no_training():
            if package:
                importlib.import_module(package)
            spec.loader.exec_module(module)
    except _Trains:
        raise ConfigError.of(
            "user_code",
            f"this file trains when it is imported: run `tui-lab doctor {file}`, or move the training into "
            '`if __name__ == "__main__":`',
            value=str(file),
        ) from None
    except (Exception, SystemExit) as error:
        raise _user_error(error, file, "importing it", _resource_step(error, file)) from error
    return module


def _resource_step(error: BaseException, file: Path) -> str:
    """Return what to do about an import that fails since this machine has no GPU or network, or ""."""
    resource = missing_resource(error)
    if resource is None:
        return ""
    step = next_step(resource, file, [str(file)])
    return f'{step}; or move what trains into `if __name__ == "__main__":`, so that the file can be imported'


def _module_name(file: Path) -> tuple[str, str]:
    """Return the name to import a file under, and its package, so that relative imports work; "" without a package."""
    parts: list[str] = []
    folder = file.resolve().parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        parts.insert(0, folder.name)
        folder = folder.parent
    package = ".".join(parts)
    return (f"{package}.{MODULE}" if package else MODULE), package


@contextmanager
def _no_training() -> Iterator[None]:
    """Raise _Trains when an optimizer steps."""
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    def stop(*_: Any) -> None:
        raise _Trains

    handle = register_optimizer_step_pre_hook(stop)
    try:
        yield
    finally:
        handle.remove()


def _called(value: Any, file: Path, name: str, arguments: dict[str, Any]) -> Any:
    """Call a class or function with the arguments that it accepts; return anything else unchanged."""
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return value
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(value).parameters
    except (TypeError, ValueError):
        parameters = {}
    accepted = {key: argument for key, argument in arguments.items() if key in parameters}
    if missing := [p for p in parameters.values() if _is_required(p) and p.name not in accepted]:
        raise _needs_arguments(file, name, missing)
    try:
        return value(**accepted)
    except (Exception, SystemExit) as error:
        raise _user_error(error, file, f"{name}()") from error


def _is_required(parameter: inspect.Parameter) -> bool:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_ONLY)
    return parameter.kind in named and parameter.default is inspect.Parameter.empty


def _needs_arguments(file: Path, name: str, missing: list[inspect.Parameter]) -> ConfigError:
    """The next step: a function without arguments, in a file beside this one."""
    values = ", ".join(f"{p.name}={_value_for(p, name)}" for p in missing)
    own_name, package = _module_name(file)
    defined = vars(sys.modules[own_name]) if own_name in sys.modules else {}
    config = f"{name}Config"
    if config not in defined:
        values = values.replace(f"{config}(…)", "…")
    guessed = [config] if f"{config}(" in values else []
    imported = dict.fromkeys([name, *(_class_of(p) for p in missing if _class_of(p)), *guessed])
    module = ".".join(filter(None, [package, file.stem])) if file.stem.isidentifier() else "…"
    above = file.resolve().parents[package.count(".") + 1 if package else 0]
    return ConfigError.of(
        "missing",
        f"{name} needs {', '.join(p.name for p in missing)}: write `from {module} import {', '.join(imported)}` and "
        f"`def model(): return {name}({values})` in a file, such as {above / 'my_model.py'}, and name that: "
        "my_model.py:model",
        value=f"{file}:{name}",
    )


def _class_of(parameter: inspect.Parameter) -> str:
    """Return the name of a parameter's class if the user wrote it, as in `config: ModelArgs`; or ""."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return annotation if annotation.isidentifier() and annotation not in vars(builtins) else ""
    is_own = inspect.isclass(annotation) and annotation.__module__.endswith(MODULE)
    return str(annotation.__name__) if is_own else ""


def _value_for(parameter: inspect.Parameter, name: str) -> str:
    if cls := _class_of(parameter):
        return f"{cls}(…)"
    return f"{name}Config(…)" if "conf" in parameter.name.lower() else "…"


def _user_error(error: BaseException, file: Path, doing: str, step: str = "") -> ConfigError:
    """Describe an error of user code: the file, the line and its text. step: what to do about it."""
    if isinstance(error, SyntaxError) and error.filename and is_file(Path(error.filename)):
        # It may be in a file that the user's file imports.
        return ConfigError.of("user_code", f"{error.filename}, line {error.lineno}: syntax error: {error.msg}")
    if isinstance(error, ImportError) and (step := _import_step(error, file)):
        return ConfigError.of("user_code", f"{file}: {error}; {step}")
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == file.resolve()]
    line = frames[-1].lineno if frames else None
    place = f"{file}, line {line}" if line else str(file)
    text = linecache.getline(str(file.resolve()), line).strip() if line else ""
    message = f"{place}: {doing} raised {type(error).__name__}: {error}" + (f" (in: {text})" if text else "")
    return ConfigError.of("user_code", f"{message}; {step}" if step else message)


def _import_step(error: ImportError, file: Path) -> str:
    """Return what to do about a module that is found only from another folder, or ""."""
    above = file.resolve().parents
    if "relative import" in str(error):
        return f"it belongs to a package: put an __init__.py into {above[0]}, or import it from a file in {above[1]}"
    top = (error.name or "").partition(".")[0]
    for folder in above[1:MAX_FOLDERS_ABOVE] if top else ():
        if (folder / top).is_dir() or (folder / f"{top}.py").is_file():
            return f"{top} is in {folder}: `cd {folder}` and name {file.resolve().relative_to(folder)} from there"
    return ""


def described(error: BaseException) -> str:
    """Return an error of user code with the innermost line that is not a library's: "file.py, line 3: raised …"."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(LIBRARIES)]
    place = f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""
    text = f" (in: {frames[-1].line})" if frames and frames[-1].line else ""
    return f"{place}{type(error).__name__}: {error}{text}"


def _defined_in(value: Any, module: ModuleType) -> bool:
    return callable(value) and getattr(value, "__module__", "") == module.__name__
