"""A training to be killed: headless, or under the real app in a pseudo-terminal.

A victim is a fork of this process, which has torch loaded already, or, where `fresh`, a program of its own, which takes
four seconds longer.
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
    "train": {"steps": STEPS, "batch_size": 64, "eval_every": 7, "eval_examples": 8, "threads": 1,
              "checkpoint_every": 2, "device": "cpu"},
}  # fmt: skip
"""Two milliseconds an update and a checkpoint at every second one, so that it writes most of the time."""

SECONDS_BETWEEN_KEYS = 1.5
APP = """
import sys
from tui_lab.app.app import LabApp
from tui_lab.app.screens.chooser import Pick
LabApp(Pick(*sys.argv[1:])).run()
"""


@dataclass(frozen=True)
class Place:
    """Where the victims of one training work."""

    root: Path
    steps: int = STEPS
    fresh: bool = False

    @property
    def run(self) -> Path | None:
        """The run folder, once there is one."""
        found = [path for path in (self.root / "runs").glob("*") if (path / "config.toml").exists()]
        return found[0] if found else None

    def config(self) -> Path:
        path = self.root / "victim.toml"
        if not path.exists():
            self.root.mkdir(parents=True, exist_ok=True)
            path.write_text(settings.to_toml(settings.build(TABLES, [f"train.steps={self.steps}"])), "utf-8")
        return path

    def start(self, *, app: bool) -> "Victim":
        """A new training, or the one that goes on."""
        run = self.run
        if app:
            return Victim(self, ("preset", str(self.config())) if run is None else ("resume", str(run)), app=True)
        arguments = (str(self.config()),) if run is None else ("--resume", str(run))
        return Victim(self, ("run", *arguments, "--quiet"), app=False)

    def environment(self) -> dict[str, str]:
        folders = {"TUI_LAB_RUNS": str(self.root / "runs"), "TUI_LAB_CACHE": str(self.root / "cache")}
        return {**folders, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", "LANG": "C.UTF-8"}


class Victim:
    """A process that trains, in a pseudo-terminal if it is the app. `look` keeps its output flowing."""

    def __init__(self, place: Place, arguments: tuple[str, ...], *, app: bool) -> None:
        self._said = place.root / "said.txt"
        self._keys, self._pressed_at = itertools.cycle(("q", "\r")), 0.0
        self._terminal = -1
        if app:
            self.pid, self._terminal = pty.fork()
        else:
            self.pid = os.fork()
        if self.pid == 0:
            _live(place, self._said, arguments, app=app)
        if app:
            os.set_blocking(self._terminal, False)

    def look(self) -> int | None:
        """Its exit code, once it has ended."""
        if self._terminal >= 0:
            try:
                os.read(self._terminal, 2**16)
            except OSError:  # Nothing painted, or it has gone.
                time.sleep(0.0001)
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        if self._terminal >= 0:
            os.close(self._terminal)
        code = os.waitstatus_to_exitcode(status)
        if code not in (0, -signal.SIGKILL):
            raise AssertionError(f"exit code {code}: {self._said.read_text('utf-8')}")
        return code

    def finish(self) -> None:
        """Leave the app, and where its screen did not know yet that the training is over, answer its question."""
        now = time.monotonic()
        if self._terminal >= 0 and now - self._pressed_at > SECONDS_BETWEEN_KEYS:
            if self._pressed_at:
                os.write(self._terminal, next(self._keys).encode())
            self._pressed_at = now


def _live(place: Place, said: Path, arguments: tuple[str, ...], *, app: bool) -> NoReturn:
    """What the child does, to its end."""
    code = 70
    try:
        os.environ.update(place.environment())
        errors = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if app:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 32, 100, 0, 0))
        else:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(errors, 2)
        if place.fresh:
            program = [sys.executable, "-c", APP] if app else [sys.executable, "-m", "tui_lab"]
            os.execv(sys.executable, [*program, *arguments])
        code = _ended(lambda: _app(arguments) if app else _headless(arguments))
    except BaseException:
        said.write_text(traceback.format_exc(), "utf-8")
    finally:
        os._exit(code)


def _ended(program: Callable[[], None]) -> int:
    try:
        program()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def _app(arguments: tuple[str, ...]) -> None:
    from tui_lab.app.app import LabApp
    from tui_lab.app.screens.chooser import Pick

    streams: list[Any] = [os.fdopen(number, mode, closefd=False) for number, mode in enumerate(("r", "w", "w"))]
    sys.stdin, sys.stdout, sys.stderr = streams
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = streams  # type: ignore[misc]
    kind, name = arguments
    LabApp(Pick(kind, name)).run()


def _headless(arguments: tuple[str, ...]) -> None:
    from tui_lab.cli import main

    sys.argv = ["tui-lab", *arguments]
    main.main()
