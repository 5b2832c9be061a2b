"""Command line and environment of the Python processes that tui-lab starts.

`python -m` puts the current folder first on sys.path, so that a `torch.py` or `rich.py` in a project would run in place
of the library that a child imports. `-P` prevents this, and PYTHONPATH must not bring the folder back.
"""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import TextIO

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""For a child that runs during training: the threads of two processes would wait for each other."""


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command line that runs `module` with this Python and without the current folder on sys.path."""
    return [sys.executable, "-P", "-m", module, *arguments]


def child_environment(**changes: str) -> dict[str, str]:
    """Return this process's environment with `changes`, and with PYTHONPATH freed of the current folder."""
    return {**os.environ, "PYTHONPATH": _python_path(os.environ.get("PYTHONPATH", "")), **changes}


def take_stdout() -> TextIO:
    """Return this process's standard output for its answers alone; call it once, where a worker starts.

    From then on, stdout is stderr: also for what C code and the programs print that user code starts.
    """
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def kill_group(child: "subprocess.Popen[bytes] | subprocess.Popen[str]") -> None:
    """Kill a child that leads a session of its own, with all processes that it has started."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (OSError, AttributeError):  # It has just ended; a system without process groups.
        child.kill()


def kill_tree(child: "subprocess.Popen[bytes]") -> None:
    """Kill a child of our own session, with all processes that it has started, and wait for it.

    Of a child that has ended, what it has started is left alone.
    """
    if child.poll() is None:
        import psutil  # Most processes that start others never come here.

        started: list[psutil.Process] = []
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(child.pid).children(recursive=True)
        child.kill()  # First, so that it starts no others in their place.
        for process in started:
            with contextlib.suppress(psutil.Error):
                process.kill()
    child.wait()


def shell_command(module: str, *arguments: str) -> str:
    """Return `python_module` for a shell, with PYTHONPATH set as in `child_environment`."""
    path = child_environment()["PYTHONPATH"]
    return shlex.join(["env", f"PYTHONPATH={path}", *python_module(module, *arguments)])


def _python_path(path: str) -> str:
    """Drop the entries that are the current folder; an empty entry means the current folder too."""
    try:
        here = Path.cwd().resolve()
    except FileNotFoundError:  # The folder was deleted: nothing can be imported from it.
        return path
    return os.pathsep.join(entry for entry in path.split(os.pathsep) if entry and Path(entry).resolve() != here)
