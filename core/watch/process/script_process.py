"""The process of a watched script: Python itself runs the script, and code of ours runs before it.

A script that another program executes (with runpy or exec) sees other frames, other modules and another `__main__`
than under `python SCRIPT`. So the process is `python SCRIPT ARGS`, exactly as the user would start it. One thing
differs: Python imports the module `sitecustomize` before it runs a script, and PYTHONPATH begins with a folder that
has one of ours (tui_lab/cli/startup). It first undoes every change of the environment, so that no child process of
the script is affected.
"""

import atexit
import contextlib
import importlib.abc
import importlib.machinery
import os
import shlex
import sys
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from tui_lab.util.exit_codes import INTERRUPTED
from tui_lab.util.strict_json import dumps

VARIABLE = "TUI_LAB_WATCH"
"""The variable of the environment that holds a JSON object for the startup code, which removes it."""
STARTUP = ("cli", "startup")
"""The folder of the startup code, in that of the package."""
is_examined = False
"""Whether the doctor runs this script: `tui_lab.watch()` records nothing then."""
_WITH_VALUE = ("-W", "-X", "--check-hash-based-pycs")
_STEERING = "tui_lab.core.watch.steering.steering"


@dataclass(frozen=True)
class Target:
    """What Python runs: the file `script`, or with `is_module` the module of that name."""

    script: str
    arguments: tuple[str, ...] = ()
    is_module: bool = False

    @property
    def program(self) -> tuple[str, ...]:
        """What names the script on a command line."""
        return ("-m", self.script) if self.is_module else (self.script,)

    @property
    def python_arguments(self) -> tuple[str, ...]:
        """What follows `python` on the command line."""
        return (*self.program, *self.arguments)

    @property
    def command_line(self) -> list[str]:
        """Also with the options that this Python got, such as torchrun's -u."""
        return [sys.executable, *interpreter_options(sys.orig_argv), *self.python_arguments]

    def arguments_hint(self, command: str) -> str:
        """Return how `tui-lab COMMAND` passes arguments to the script."""
        beginning = shlex.join(["tui-lab", command, *self.program])
        return f"put the script's own arguments after --: {beginning} -- ARGUMENTS"

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.script.rpartition(".")[2] if self.is_module else Path(self.script).stem

    def first_folder(self, folder: str | None = None) -> str:
        """Return the folder that Python puts first on sys.path. folder: the script's current one; None: ours."""
        current = folder or os.getcwd()
        return current if self.is_module else os.path.dirname(os.path.realpath(os.path.join(current, self.script)))


def interpreter_options(command_line: Sequence[str]) -> list[str]:
    """Return the options of Python in its command line.

    Those that make it ignore PYTHONPATH or a script's folder are left out.
    """
    options: list[str] = []
    arguments = iter(command_line[1:])
    for argument in arguments:
        if not argument.startswith("-") or argument == "-" or argument.startswith("-c"):
            break
        if argument in _WITH_VALUE:
            options += [argument, next(arguments, "")]
            continue
        if argument.startswith(("--", "-W", "-X")):
            options.append(argument)
            continue
        letters, module, _ = argument[1:].partition("m")
        kept = "".join(letter for letter in letters if letter not in "EIP")
        options += [f"-{kept}"] if kept else []
        if module:
            break
    return options


def environment(
    settings: dict[str, Any], begin: str = "tui_lab.cli.watch_process", variables: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """Return the environment `variables`, changed so that Python first runs the startup code with `settings`.

    begin: the module whose function `begin` it calls.
    """
    python_path = variables.get("PYTHONPATH")
    package = os.path.dirname(os.path.abspath(str(sys.modules["tui_lab"].__file__)))
    folder = os.path.join(package, *STARTUP)
    start = {
        "folder": folder,
        "python_path": python_path,
        "package": package,
        "begin": begin,
        "settings": settings,
    }
    path = os.pathsep.join([folder, *([python_path] if python_path else [])])
    return {**variables, "PYTHONPATH": path, VARIABLE: dumps(start)}


def forget_own_modules(loaded_before: Collection[str], folder: str) -> None:
    """Call `forget_shadowed_modules` for what was imported after `loaded_before`, if Python looks in `folder`."""
    if not sys.flags.safe_path:
        forget_shadowed_modules([name for name in sys.modules if name not in loaded_before], folder)


def forget_shadowed_modules(loaded: Sequence[str], folder: str) -> None:
    """Remove from sys.modules those of the modules `loaded` that the script would import from its own `folder`.

    The startup code imports modules, such as `queue`, before the script's folder is on sys.path. A script that has a
    queue.py gets its own under `python SCRIPT`.
    """
    for name in {module.partition(".")[0] for module in loaded}:
        spec = importlib.machinery.PathFinder.find_spec(name, [folder])
        loaded_module = sys.modules.get(name)
        if (
            spec is None
            or spec.origin is None
            or loaded_module is None
            or spec.origin == getattr(loaded_module, "__file__", None)
        ):
            continue
        for module in [m for m in loaded if m.partition(".")[0] == name]:
            sys.modules.pop(module, None)


def end_quietly_when_stopped() -> None:
    """Let a StopRequested that the script does not catch end it without a traceback, with exit code 130."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: Any) -> None:
        if _is_stop(kind):
            raise SystemExit(INTERRUPTED)  # Python exits with this code, after all cleanup.
        previous(kind, error, trace)

    sys.excepthook = hook


def _is_stop(kind: type[BaseException]) -> bool:
    # The module imports torch, which the script may not have done.
    steering = sys.modules.get(_STEERING)
    return steering is not None and issubclass(kind, steering.StopRequested)


def end_now() -> NoReturn:
    """End the process with exit code 0, without any cleanup of the script, which could write something."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # The script may have closed or replaced it.
            stream.flush()
    os._exit(0)


def at_end(call: Callable[[BaseException | None], None]) -> None:
    """Call `call` when this process, not a forked one, ends: after all exit handlers of the script.

    It gets the exception that ended the script. Not called when a signal or `os._exit` ends the process.
    """
    pid = os.getpid()

    def handler() -> None:
        if os.getpid() == pid:
            # Set by Python for an exception that nothing catches, also where a script has its own sys.excepthook.
            call(getattr(sys, "last_value", None))

    # The first handler registered is the last to be called.
    atexit.register(handler)


def when_imported(name: str, call: Callable[[], None]) -> None:
    """Call `call` once, right after the module `name` has been imported; now if it has been already.

    torch reads OMP_NUM_THREADS, PYTORCH_CUDA_ALLOC_CONF and others when it is imported, and a script may set them
    before. So it must not be imported on the script's behalf.
    """
    if name in sys.modules:
        call()
    else:
        sys.meta_path.insert(0, _ImportWatcher(name, call))


class _ImportWatcher(importlib.abc.MetaPathFinder):
    """Lets the other finders find everything; the loader of one module is replaced until it has run."""

    def __init__(self, name: str, call: Callable[[], None]) -> None:
        self._name = name
        self._call = call
        self._is_called = False
        self._searching: set[int] = set()
        """The threads that look for the module at present: another finder may ask this one again."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        thread = threading.get_ident()
        if name != self._name or thread in self._searching:
            return None
        self._searching.add(thread)
        try:
            specs = (each.find_spec(name, path, target) for each in list(sys.meta_path) if each is not self)
            spec = next((spec for spec in specs if spec is not None), None)
        finally:
            self._searching.discard(thread)
        # To look for a module, as transformers does before it imports torch, does not import it.
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, self._imported)
        return spec

    def _imported(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        if not self._is_called:
            self._is_called = True
            self._call()


class _Loader(importlib.abc.Loader):
    """Calls a function after a module was executed; all else is as the module's own loader does it."""

    def __init__(self, loader: Any, call: Callable[[], None]) -> None:
        self._loader = loader
        self._call = call

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self).get("_loader"), name)  # A copy has no attributes at first.

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        module: ModuleType | None = self._loader.create_module(spec)
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._call()
