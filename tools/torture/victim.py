"""A training process to be killed: headless, or the real app in a pseudo-terminal.

It is a fork of this process, which has loaded torch already, or, with `fresh`, a new program, which takes four seconds
longer.
"""

import fcntl
import itertools
import os
import pty
import signal
import struct
import sys
import termios
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tui_lab.core.config import settings

STEPS = 120
TABLES: dict[str, dict[str, Any]] = {
    "model": {"d_model": 8, "n_layers": 1, "n_heads": 2, "d_head": 4, "d_ff": 8, "context": 5, "dropout": 0.2},
    "data": {"task": "reverse", "tokenizer": "digits", "length": 3, "n_digits": 5},
    "train": {
        "steps": STEPS,
        "batch_size": 64,
        "eval_every": 7,
        "eval_examples": 8,
        "threads": 1,
        "checkpoint_every": 2,
        "device": "cpu",
    },
}
"""A step takes two milliseconds and every second one writes a checkpoint, so that it writes most of the time."""

SECONDS_BETWEEN_KEYS = 1.5
APP = """
import sys
from tui_lab.app.app import LabApp
from tui_lab.app.screens.home import Pick
LabApp(Pick(*sys.argv[1:])).run()
"""


@dataclass(frozen=True)
class Place:
    """The folder in which all processes of one run work."""

    root: Path
    steps: int = STEPS
    fresh: bool = False

    @property
    def run(self) -> Path | None:
        """The run folder, or None before there is one."""
        folders = [path for path in (self.root / "runs").glob("*") if (path / "config.toml").exists()]
        return folders[0] if folders else None

    def config(self) -> Path:
        """Return the config file, after writing it if necessary."""
        path = self.root / "victim.toml"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            path.write_text(settings.to_toml(settings.build(TABLES, [f"train.steps={self.steps}"])), "utf-8")
        return path

    def start(self, *, app: bool) -> "Victim":
        """Start the run, or resume it."""
        run = self.run
        if app:
            return Victim(self, ("preset", str(self.config())) if run is None else ("resume", str(run)), app=True)
        arguments = (str(self.config()),) if run is None else ("--resume", str(run))
        return Victim(self, ("run", *arguments, "--quiet"), app=False)

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the processes."""
        folders = {"TUI_LAB_RUNS": str(self.root / "runs"), "TUI_LAB_CACHE": str(self.root / "cache")}
        return {**folders, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "LANG": "C.UTF-8"}


class Victim:
    """A training process, in a pseudo-terminal if it is the app. `poll` also reads its output."""

    def __init__(self, place: Place, arguments: tuple[str, ...], *, app: bool) -> None:
        self._errors = place.root / "errors.txt"
        self._keys = itertools.cycle(("q", "\r"))
        self._pressed_at = 0.0
        self._terminal = -1
        if app:
            self.pid, self._terminal = pty.fork()
        else:
            self.pid = os.fork()
        if self.pid == 0:
            _run_child(place, self._errors, arguments, app=app)
        if app:
            os.set_blocking(self._terminal, False)

    def poll(self) -> int | None:
        """Return its exit code, or None while it runs. Raises AssertionError if it failed by itself."""
        if self._terminal >= 0:
            try:
                os.read(self._terminal, 2**16)
            except OSError:  # No output, or the process has ended.
                time.sleep(0.0001)
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        if self._terminal >= 0:
            os.close(self._terminal)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL):
            raise AssertionError(f"exit code {code}: {self._errors.read_text('utf-8')}")
        return code

    def finish(self) -> None:
        """Quit the app, and confirm if it asks because it still shows the run as running."""
        now = time.monotonic()
        if self._terminal >= 0 and now - self._pressed_at > SECONDS_BETWEEN_KEYS:
            if self._pressed_at:
                os.write(self._terminal, next(self._keys).encode())
            self._pressed_at = now


def _run_child(place: Place, errors_file: Path, arguments: tuple[str, ...], *, app: bool) -> NoReturn:
    """Train in the child process, and exit."""
    code = 70
    try:
        os.environ.update(place.environment())
        errors = os.open(errors_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if app:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 32, 100, 0, 0))
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(errors, 2)
        if place.fresh:
            program = [sys.executable, "-c", APP] if app else [sys.executable, "-m", "tui_lab"]
            os.execv(sys.executable, [*program, *arguments])
        code = _exit_code(lambda: _app(arguments) if app else _headless(arguments))
    except BaseException:
        errors_file.write_text(traceback.format_exc(), "utf-8")
    finally:
        os._exit(code)


def _exit_code(program: Callable[[], None]) -> int:
    try:
        program()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _app(arguments: tuple[str, ...]) -> None:
    from tui_lab.app.app import LabApp
    from tui_lab.app.screens.home import Pick

    streams: list[Any] = [os.fdopen(number, mode, closefd=False) for number, mode in enumerate(("r", "w", "w"))]
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
    kind: Any = arguments[0]
    LabApp(Pick(kind, arguments[1])).run()


def _headless(arguments: tuple[str, ...]) -> None:
    from tui_lab.cli import main

    sys.argv = ["tui-lab", *arguments]
    main.main()
