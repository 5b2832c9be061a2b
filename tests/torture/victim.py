"""A training to be killed: headless, or under the real app in a pseudo-terminal."""

import itertools
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from core import settings
from tui_lab.bench.terminal import Terminal

STEPS = 240
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
from tui_lab.app import LabApp
from tui_lab.screens.chooser import Pick
LabApp(Pick(*sys.argv[1:])).run()
"""


class Victim(Protocol):
    """A process that trains. `look` keeps its output flowing."""

    pid: int

    def look(self) -> int | None:
        """Its exit code, once it has ended."""
        ...

    def finish(self) -> None:
        """The training is over: let the process end, if it waits for a person."""
        ...


@dataclass(frozen=True)
class Place:
    """Where the victims of one training work."""

    root: Path
    steps: int = STEPS

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

    def start(self, *, app: bool) -> Victim:
        """A new training, or the one that goes on."""
        run = self.run
        if app:
            return InApp(self, ("preset", str(self.config())) if run is None else ("resume", str(run)))
        return Headless(self, [str(self.config())] if run is None else ["--resume", str(run)])

    def environment(self) -> dict[str, str]:
        return {
            "TUI_LAB_RUNS": str(self.root / "runs"),
            "TUI_LAB_CACHE": str(self.root / "cache"),
            "OMP_NUM_THREADS": "1",
        }


class Headless:
    def __init__(self, place: Place, arguments: list[str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tui_lab", "run", *arguments, "--quiet"], cwd=Path.cwd(),
            env={**os.environ, **place.environment()}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.pid = self._process.pid

    def look(self) -> int | None:
        code = self._process.poll()
        if code is not None and self._process.stderr is not None:
            said = self._process.stderr.read().decode(errors="replace")
            self._process.stderr.close()
            if code not in (0, -signal.SIGKILL):
                raise AssertionError(f"exit code {code}: {said}")
        return code

    def finish(self) -> None:
        return None


class InApp:
    def __init__(self, place: Place, pick: tuple[str, str]) -> None:
        self._terminal = Terminal([sys.executable, "-c", APP, *pick], (100, 32), Path.cwd(), **place.environment())
        self.pid = self._terminal.pid
        self._keys, self._pressed_at = itertools.cycle(("q", "\r")), 0.0

    def look(self) -> int | None:
        self._terminal.read(0.0005)
        found = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if found is None else self._terminal.end()

    def finish(self) -> None:
        """Leave, and where the screen did not know yet that the training is over, answer its question."""
        now = time.monotonic()
        if now - self._pressed_at > SECONDS_BETWEEN_KEYS:
            if self._pressed_at:
                self._terminal.send(next(self._keys))
            self._pressed_at = now
