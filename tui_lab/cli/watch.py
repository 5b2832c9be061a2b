"""`tui-lab watch`: start a script in a process that records it, and what that process does before and after it."""

import contextlib
import importlib
import importlib.util
import os
import shlex
import sys
import time
from collections.abc import Iterable
from importlib.machinery import ModuleSpec, PathFinder
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tui_lab.cli.output import say
from tui_lab.core import events as ev
from tui_lab.core.runs.before_nonfinite import read_before
from tui_lab.core.runs.run_files import CONFIG, OUTPUT
from tui_lab.core.watch.process.ending import STOPPED, EndedBySignal
from tui_lab.core.watch.process.exit_code import ExitCode
from tui_lab.core.watch.process.output_log import OutputLog
from tui_lab.core.watch.process.script_process import (
    Target,
    at_end,
    end_quietly_when_stopped,
    environment,
    forget_own_modules,
)
from tui_lab.core.watch.process.script_recording import ScriptRecording
from tui_lab.core.watch.process.terminating_signals import TerminatingSignals
from tui_lab.runs.nonfinite_text import before_lines, origin_lines, origin_summary
from tui_lab.util.errors import ConfigError, LabError, nearest
from tui_lab.util.exit_codes import BAD_USAGE, DONE
from tui_lab.util.files import advice
from tui_lab.util.plural import counted

if TYPE_CHECKING:
    from tui_lab.cli.detach import Detached

_PYTHON_FILES = (".py", ".pyw", ".pyc")
LINES_OF_A_FAILURE = 20
SECONDS_TO_END = 3.0
"""Seconds that Python may take to end after the recording has ended."""
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


def startup_settings(target: Target, out: Path | None, *, in_background: bool) -> dict[str, object]:
    """Return the keyword arguments of `begin`, for the watched process."""
    return {
        "script": target.script,
        "arguments": target.arguments,
        "is_module": target.is_module,
        "out": None if out is None else str(out),
        "in_background": in_background,
    }


def run_headless(target: Target, out: Path | None) -> NoReturn:
    """Become the process of the script, which has this process's id, terminal, signals and environment.

    Of the processes that torchrun starts, the first records, and the others make the changes that it proposes.
    """
    if os.environ.get("RANK", "0") == "0":
        start = environment(startup_settings(target, out, in_background=False))
    else:
        start = environment({"script": target.script, "is_module": target.is_module}, "tui_lab.cli.watch_rank")
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # It is None where its descriptor is closed.
            stream.flush()
    os.execve(sys.executable, target.command_line, start)


def run_in_background(target: Target, out: Path | None) -> int:
    """Start the script in a process that outlives the terminal, and open the app that follows it.

    Returns the app's exit code; if the script ends before the app opens, what it printed is shown, and its own exit
    code is returned.
    """
    from tui_lab.cli import detach

    def command(folder: Path) -> detach.Command:
        settings = startup_settings(target, folder, in_background=True)
        return detach.Command(target.command_line, environment(settings))

    process = detach.start_in_new_folder(command, target.name, out)
    # It takes as long to import the app as a script takes to refuse its arguments.
    from tui_lab.app.main import main as run_app
    from tui_lab.app.main import prepare

    if process.code is None:
        prepare()
        importlib.import_module("tui_lab.app.app")
        process = detach.poll(process)
    if process.code is not None:
        detach.show_output(process)
        is_recorded = (process.folder / CONFIG).exists()
        hint = f"; its run: tui-lab app {shlex.quote(str(process.folder))}" if is_recorded else ""
        say(f"the script ended with exit code {process.code} before the app opened{hint}")
        return process.code
    try:
        return run_app(str(process.folder))
    finally:
        _say_what_remains(process)


def _say_what_remains(process: "Detached") -> None:
    """Say whether the script still runs, and if it failed, the last lines that it printed."""
    from tui_lab.cli import detach

    process = detach.poll(process)
    deadline = time.monotonic() + SECONDS_TO_END
    while process.code is None and not detach.is_running(process) and time.monotonic() < deadline:
        time.sleep(0.05)  # The recording has ended, and Python is about to.
        process = detach.poll(process)
    folder = shlex.quote(str(process.folder))
    if process.code is not None:
        if process.code not in (DONE, *STOPPED):
            for line in process.output.splitlines()[-LINES_OF_A_FAILURE:]:
                say(line)
        say(f"the script ended with exit code {process.code}; its run: tui-lab app {folder}")
    elif detach.is_running(process):
        say(f"process {process.pid} is still running; follow and steer it with: tui-lab app {folder}")
    else:
        say(f"process {process.pid} is still running, but no longer recorded; its run: tui-lab app {folder}")


def begin(
    loaded_before: set[str],
    script: str,
    arguments: list[str],
    is_module: bool,
    out: str | None,
    in_background: bool,
    last_step: int = 0,
) -> ScriptRecording | None:
    """Begin to record this process, which is going to run the script. Python calls it through `startup`.

    last_step: the step after which the script is stopped; 0: none. Returns the recording, if there is one.
    Where it is not possible to record, a bad --out ends the process; anything else is a message, and the script runs.
    """
    target = Target(script, tuple(arguments), is_module)
    recording = None
    try:
        recording = _start(target, out)
        recording.last_step = last_step
        if not in_background:  # There, the app shows the event, and the lines would be in its log once more.
            recording.on_non_finite = _say_non_finite
        shown_folder = _relative(recording.run.path)
        if not in_background:
            _say(f"recording into {shown_folder}; follow it with: tui-lab app {shlex.quote(shown_folder)}")
        output = _copy_output(recording.run.path, in_background=in_background)
        _watch_for_end(recording, output, "" if in_background else shown_folder)
    except LabError as error:
        for line in str(error).splitlines():
            _say(f"tui-lab: {line}")
        os._exit(BAD_USAGE)  # An exception here would not end Python.
    except Exception as error:
        _say(f"tui-lab: the script is not recorded: {type(error).__name__}: {error}")
    forget_own_modules(loaded_before, target.first_folder())
    return recording


def _watch_for_end(recording: ScriptRecording, output: OutputLog | None, shown_folder: str) -> None:
    """End the recording when the script ends, however it does."""
    end_quietly_when_stopped()
    exit_code = ExitCode()
    exit_code.watch()

    def end(error: BaseException | None) -> None:
        _end(recording, output, error or exit_code.exception(), shown_folder)

    at_end(end)
    signals = TerminatingSignals(lambda number: end(EndedBySignal(number)), lambda: recording.is_busy)
    signals.handle()
    recording.on_begin = signals.watch


def _start(target: Target, out: str | None) -> ScriptRecording:
    arguments = sys.argv
    # The lock's file says which command holds it.
    sys.argv = ["tui-lab", "watch", *target.python_arguments]
    try:
        folder = None if out is None else Path(out)
        return ScriptRecording(
            target.name, target.python_arguments, folder, lambda problem: _say(f"tui-lab: {problem}")
        )
    finally:
        sys.argv = arguments


def _copy_output(folder: Path, *, in_background: bool) -> OutputLog | None:
    """Copy what the script prints to output.log."""
    if in_background and isinstance(sys.stdout, TextIOWrapper):
        # As on the terminal from which it was started; in a file, a line would be seen when 8 KiB have been printed.
        sys.stdout.reconfigure(line_buffering=True)
    try:
        output = OutputLog(folder / OUTPUT)
    except OSError as error:
        _say(f"tui-lab: the output is not recorded: {advice(error)}")
        return None
    output.attach()
    return output


def _end(recording: ScriptRecording, output: OutputLog | None, error: BaseException | None, shown_folder: str) -> None:
    """End the recording and say what was recorded; where all is well, only with a `shown_folder`."""
    if output is not None:
        output.end()
    try:
        recording.end(error)
    except Exception as failure:
        _say(f"tui-lab: the end of the run is not recorded: {type(failure).__name__}: {failure}")
        return
    if recording.problem:
        _say(f"tui-lab: {recording.problem}")
    elif shown_folder:
        steps = counted(recording.n_steps, "step")
        _say(f"recorded {steps} in {shown_folder}")
        if (event := recording.non_finite) is not None:
            _say(f"step {event.failed_step:,}: {origin_summary(event.origin)}")
            for line in before_lines(read_before(recording.run, event)):
                _say(line)


def _say_non_finite(event: ev.NonFinite) -> None:
    _say(f"tui-lab: the {event.origin.quantity} of step {event.failed_step:,} is not finite")
    for line in origin_lines(event.origin):
        _say(f"tui-lab: {line}")


def _say(text: str) -> None:
    """Write a line to the stderr that Python began with: the script may have closed or replaced its own."""
    with contextlib.suppress(OSError, ValueError, AttributeError), contextlib.redirect_stderr(sys.__stderr__):
        say(text)


def _relative(path: Path) -> str:
    """`path` as seen from the current folder, if it is in there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
