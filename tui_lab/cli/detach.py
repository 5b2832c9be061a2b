"""`tui-lab run --detach`: train in a background process that outlives the terminal."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tui_lab.cli.output import say, write
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import CONFIG, OUTPUT
from tui_lab.core.runs.lock import InUse, in_use
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import RunError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE

POLL_SECONDS = 0.05


def start(arguments: Sequence[str], name: str, out: Path | None) -> int:
    """Run `tui-lab run ARGUMENTS` in the background in a new folder, `out` or one named after `name`.

    Returns once it trains, or with its exit code if it ends before that.
    """
    folder = out if out is not None else runs.free_path(runs.runs_folder(), name)
    is_new = out is None or not out.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError.of("unwritable", f"cannot create a run here: {error.strerror}", value=str(folder)) from error
    code = _launch([*arguments, "--out", str(folder)], folder)
    if code != DONE and is_new and not (folder / CONFIG).exists():
        shutil.rmtree(folder, ignore_errors=True)
    return code


def resume(arguments: Sequence[str], name: str) -> int:
    """Run `tui-lab run ARGUMENTS`, which resume the run `name`, in the background; returns as `start` does."""
    folder = runs.find(name).path
    if holder := in_use(folder):
        raise InUse(folder, holder)
    return _launch(arguments, folder)


def _launch(arguments: Sequence[str], folder: Path) -> int:
    log = folder / OUTPUT
    first_byte = log.stat().st_size if log.exists() else 0
    pid = _spawn(python_module("tui_lab", "run", *arguments), log)
    while not _trains(folder, pid):
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return _ended(log, first_byte, os.waitstatus_to_exitcode(status))
        time.sleep(POLL_SECONDS)
    write(printable(str(folder)))
    say(f"process {pid} is training; follow and steer it with: tui-lab app {shlex.quote(str(folder))}")
    return DONE


def _spawn(command: list[str], log: Path) -> int:
    """Start `command` in a separate session, which a closed terminal does not reach; return its process id."""
    append = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    return os.posix_spawn(
        command[0],
        command,
        child_environment(),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), append, 0o666),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )


def _trains(folder: Path, pid: int) -> bool:
    holder = in_use(folder) if (folder / CONFIG).is_file() else None
    return holder is not None and holder.pid == pid


def _ended(log: Path, first_byte: int, code: int) -> int:
    """Show what the process printed; return its exit code."""
    with log.open("rb") as stream:
        stream.seek(first_byte)
        printed = stream.read().decode("utf-8", "replace").strip()
    stream_of_result = write if code == DONE else say
    if printed:
        stream_of_result(printable(printed))
    return code if code >= 0 else 128 - code


def arguments_without_detach() -> list[str]:
    """Return what followed `tui-lab run` on this command line, without --detach."""
    return [argument for argument in sys.argv[2:] if argument != "--detach"]
