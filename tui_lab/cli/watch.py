"""`tui-lab watch`: start a script in a process that records it, and open the app on it."""

import importlib
import os
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tui_lab.cli.output import say
from tui_lab.core.runs.run_files import CONFIG
from tui_lab.core.watch.process.ending import STOPPED
from tui_lab.core.watch.process.script_process import Target, environment
from tui_lab.util.exit_codes import DONE

if TYPE_CHECKING:
    from tui_lab.cli.detach import Detached

LINES_OF_A_FAILURE = 20
SECONDS_TO_END = 3.0
"""Seconds that Python may take to end after the recording has ended."""


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
