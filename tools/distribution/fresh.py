"""Install a wheel in a fresh environment and use it, in an empty folder, with an empty home. Prints a transcript."""

import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyte

from tui_lab.bench.pseudo_terminal import Terminal

SECONDS = 600.0
"""For a screen to appear; not a measure of speed: a machine may be busy, and a replay takes as long as its run did."""
SIZE = (120, 40)
SCRIPT = """\
import torch
from torch import nn

torch.manual_seed(0)
model = nn.Sequential(nn.Embedding(16, 32), nn.Linear(32, 16))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for step in range(200):
    x = torch.randint(0, 16, (8, 12))
    loss = nn.functional.cross_entropy(model(x).flatten(0, 1), (15 - x).flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""
"""A training script of a user: each token is mapped to another one."""


def say(text: str) -> None:
    """Print a line of the transcript at once, so that the output of a command that hangs is seen."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Fresh:
    """A new environment, and a new folder in which its programs run. Keeps the seconds of each command."""

    def __init__(self, folder: Path) -> None:
        self.environment_folder = folder / "environment"
        self.work = folder / "work"
        self.work.mkdir(parents=True)
        self.seconds: dict[str, float] = {}
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TUI_LAB_", "PYTHON"))}
        home = folder / "home"
        home.mkdir()
        # The home is empty for tui-lab; pip's settings and cache stay where they are.
        self.variables = {
            **kept,
            "PATH": f"{self.environment_folder / 'bin'}{os.pathsep}{kept['PATH']}",
            "TUI_LAB_CACHE": str(home / "cache"),
            "TUI_LAB_CONFIG": str(home / "config"),
            "COLUMNS": "100",
        }
        self.variables.pop("VIRTUAL_ENV", None)

    def run(self, *command: str, show: bool = True) -> None:
        """Run a command; end the program if it fails."""
        line = shlex.join(command)
        say(f"$ {line}")
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=self.work, env=self.variables, capture_output=True, text=True, check=False)
        self.seconds[line] = time.perf_counter() - begin
        if show or done.returncode:
            sys.stdout.write(done.stdout + done.stderr)
        if done.returncode:
            raise SystemExit(f"exit code {done.returncode}")
        say(f"# {self.seconds[line]:.1f} s\n")

    def install(self, wheel: Path, extras: str, torch: str) -> None:
        """Create the environment, and install the wheel with its extras; torch first, as the Makefile has it."""
        self.run(sys.executable, "-m", "venv", str(self.environment_folder))
        self.run("pip", "install", "--quiet", *shlex.split(torch), show=False)
        self.run("pip", "install", "--quiet", f"{wheel}{f'[{extras}]' if extras else ''}", show=False)

    def use(self) -> None:
        """Use the installed program as README.md shows: a run, the environment, a script, the doctor, the app."""
        self.run("tui-lab", "--version")
        self.run("tui-lab", "doctor", "--environment")
        self.run("tui-lab", "run", "reverse", "--steps", "50", "--out", "runs/first")
        (self.work / "train.py").write_text(SCRIPT, "utf-8")
        self.run("tui-lab", "watch", "--headless", "--out", "runs/script", "train.py")
        self.run("tui-lab", "doctor", "train.py")
        self.run("tui-lab", "runs", "ls")
        self.see("tui-lab", "app", "reverse", "--steps", "50", text="■ done")
        self.see("tui-lab", "app", "runs/script", text="■ done")

    def use_plugin(self, wheel: Path, config: Path) -> None:
        """Install the example of a plug-in beside tui-lab, and use its task, tokenizer, check and watcher."""
        self.run("pip", "install", "--quiet", "--no-deps", str(wheel), show=False)
        self.run("tui-lab", "doctor", "--environment")
        shutil.copy(config, self.work)
        self.run("tui-lab", "run", config.name, "--steps", "50", "--out", "runs/plugin")
        self.run("tui-lab", "doctor", config.name)
        # A rate of zero: the watcher has something to say.
        options = ["--steps", "210", "--set", "optim.lr=0", "--set", "train.batch_size=4"]
        self.run("tui-lab", "run", config.name, "--out", "runs/flat", *options)
        self.see("tui-lab", "app", config.name, "--steps", "50", text="■ done")

    def see(self, *command: str, text: str) -> None:
        """Open the app in a pseudo-terminal, wait until it shows `text`, print the screen, and quit by key."""
        line = shlex.join(command)
        say(f"$ {line}")
        begin = time.perf_counter()
        variables = {**self.variables, "TERM": "xterm-256color", "COLUMNS": str(SIZE[0])}
        terminal = Terminal(["env", "-i", *(f"{k}={v}" for k, v in variables.items()), *command], SIZE, self.work)
        screen = pyte.Screen(*SIZE)
        stream = pyte.ByteStream(screen)
        while text not in "\n".join(screen.display):
            stream.feed(terminal.read(0.1))
            if time.perf_counter() - begin > SECONDS:
                terminal.kill()
                raise SystemExit(f"{text!r} never came:\n" + "\n".join(screen.display))
        self.seconds[line] = time.perf_counter() - begin
        say("\n".join(row.rstrip() for row in screen.display))
        terminal.send("q")
        terminal.read(SECONDS)
        if code := terminal.end():
            raise SystemExit(f"exit code {code}")
        say(f"# {self.seconds[line]:.1f} s until {text!r}\n")
