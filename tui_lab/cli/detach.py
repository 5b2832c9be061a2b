"""Processes that outlive the terminal: `tui-lab run --detach`, and the scripts of `tui-lab watch`."""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tui_lab.cli.output import say, write
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.lock import InUse, in_use
from tui_lab.core.runs.run_files import CONFIG, OUTPUT, refuse_links
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE

POLL_SECONDS = 0.05
LONGEST_OUTPUT = 2**20
"""Bytes of the output of a process that are shown, at most: its last ones."""


@dataclass(frozen=True)
class Command:
    """A command line and its environment."""

    command_line: list[str]
    environment: dict[str, str]


@dataclass(frozen=True)
class Detached:
    """A process that writes into a run folder, and whose output begins at `first_byte` of output.log.

    code, output: its exit code and what it printed, once it has ended.
    """

    folder: Path
    pid: int
    first_byte: int
    code: int | None = None
    output: str = ""


def start(arguments: Sequence[str], name: str, out: Path | None) -> int:
    """Run `tui-lab run ARGUMENTS` in the background in a new folder, `out` or one named after `name`.

    Returns once it trains, or with its exit code if it ends before that.
    """
    return _report(start_in_new_folder(lambda folder: _run([*arguments, "--out", str(folder)]), name, out))


def resume(arguments: Sequence[str], name: str) -> int:
    """Run `tui-lab run ARGUMENTS`, which resume the run `name`, in the background; returns as `start` does."""
    folder = runs.find(name).path
    if holder := in_use(folder):
        raise InUse(folder, holder)
    return _report(_launch(_run(arguments), folder))


def start_in_new_folder(command: Callable[[Path], Command], name: str, out: Path | None) -> Detached:
    """Start the process of `command(folder)`; returns when it writes into the folder, or has ended.

    A new folder that it leaves without a run is removed after it has failed. Raises RunError when `out` is taken.
    """
    if out is not None:
        runs.refuse_taken(out)
    folder = out if out is not None else runs.free_path(runs.runs_folder(), name)
    is_new = out is None or not out.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError.of("unwritable", f"cannot create a run here: {error.strerror}", value=str(folder)) from error
    return _launch(command(folder), folder, is_new=is_new)


def is_running(process: Detached) -> bool:
    """Return whether it still writes into its folder."""
    holder = in_use(process.folder) if (process.folder / CONFIG).is_file() else None
    return holder is not None and holder.pid == process.pid


def show_output(process: Detached) -> None:
    """Show what a process that has ended printed: on stdout if it succeeded, else on stderr."""
    stream_of_result = write if process.code == DONE else say
    if process.output:
        stream_of_result(printable(process.output))


def arguments_without_detach() -> list[str]:
    """Return what followed `tui-lab run` on this command line, without --detach."""
    return [argument for argument in sys.argv[2:] if argument != "--detach"]


def _run(arguments: Sequence[str]) -> Command:
    return Command(python_module("tui_lab", "run", *arguments), child_environment())


def _report(process: Detached) -> int:
    """Say that the process trains, or show what it printed; return the exit code."""
    if process.code is not None:
        show_output(process)
        return process.code
    folder = str(process.folder)
    write(printable(folder))
    say(f"process {process.pid} is training; follow and steer it with: tui-lab app {shlex.quote(folder)}")
    return DONE


def _launch(command: Command, folder: Path, *, is_new: bool = False) -> Detached:
    log = folder / OUTPUT
    refuse_links(folder, [OUTPUT])  # The process refuses the others.
    first_byte = log.stat().st_size if log.exists() else 0
    process = Detached(folder, _spawn(command, log), first_byte)
    try:
        process = _wait_until_it_holds(process)
    except KeyboardInterrupt:  # It is in another session, which the terminal's signal does not reach.
        os.kill(process.pid, signal.SIGTERM)
        raise
    if process.code not in (None, DONE) and is_new and not (folder / CONFIG).exists():
        shutil.rmtree(folder, ignore_errors=True)
    return process


def _wait_until_it_holds(process: Detached) -> Detached:
    """Return when the process writes into its folder, or has ended."""
    while not is_running(process):
        process = poll(process)
        if process.code is not None:
            break
        time.sleep(POLL_SECONDS)
    return process


def poll(process: Detached) -> Detached:
    """Return the process with its exit code and output if it has ended; call it only until then."""
    pid, status = os.waitpid(process.pid, os.WNOHANG)
    if not pid:
        return process
    code = os.waitstatus_to_exitcode(status)
    log = process.folder / OUTPUT
    with log.open("rb") as stream:
        stream.seek(max(process.first_byte, log.stat().st_size - LONGEST_OUTPUT))
        output = stream.read().decode("utf-8", "replace").strip()
    return replace(process, code=code if code >= 0 else 128 - code, output=output)


def _spawn(command: Command, log: Path) -> int:
    """Start `command` in a separate session, which a closed terminal does not reach; return its process id."""
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
    return os.posix_spawn(
        command.command_line[0],
        command.command_line,
        command.environment,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o666),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
