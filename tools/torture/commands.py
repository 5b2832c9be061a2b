"""Fuzz command lines: each must work, or be refused with a message and exit code 2.

    python -m tools.torture.commands --times 5000 --seed 0

They run in this process, in a temporary folder with a config, a text and a run. What takes long is cut short: training
stops before its first step, the doctor runs no check, no server is started.
"""

import contextlib
import io
import os
import random
import re
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from tools.torture.command_line import run_fuzzer
from tools.torture.configs import ODD_TEXTS
from tools.torture.limits import on_alarm
from tui_lab.cli import main, run
from tui_lab.core import commands as cmd
from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Report
from tui_lab.core.kernels import memory_estimate
from tui_lab.core.kernels.linear import Kernels

SECONDS = 60
MACHINE_BYTES = 2**29
"""The memory that the machine appears to have, so that only small models are accepted."""
LARGEST_RSS = 3 * 2**30
TINY = ("data.length=3", "model.d_model=8", "model.n_layers=1", "model.d_ff=8", "train.eval_examples=8")
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
ODD_ARGUMENTS = [text for text in ODD_TEXTS if "\x00" not in text] + [
    "\udcff",
    "-",
    "--",
    "--help",
    "-q",
    "-x",
    "--set",
    "1",
    "-1",
]
SOURCES = ("reverse", "overfit-one", "tiny.toml", "torn.toml", "revers", "runs/one", "one", "text.txt", ".", "socrates")
RUNS = ("one", "runs/one", "on", "runs", "text.txt", "/dev/null", "~")
NUMBERS = ("0", "1", "2", "3", "5", "8", "0.5", "1", "-1", "1e3", "nan", "99999999999999999999", "0x10", "1_0", "")


@contextlib.contextmanager
def cut_short() -> Iterator[None]:
    """Patch the parts that take long so that they end at once."""
    train = run.train

    def stopped(opened: Any, *arguments: Any, **named: Any) -> int:
        opened.trainer.commands.put(cmd.Stop())
        return train(opened, *arguments, **named)

    with (
        mock.patch("tui_lab.cli.run.train", stopped),
        mock.patch("tui_lab.core.doctor.runner.examine", lambda *a, **k: Report()),
        mock.patch("tui_lab.cli.doctor.self_test", lambda *a, **k: 0),
        mock.patch("textual_serve.server.Server.serve", lambda *a, **k: None),
        mock.patch("tui_lab.core.kernels.autotune.measure", lambda *a: Kernels()),
        mock.patch("torch.set_num_threads", lambda n: None),
        mock.patch.object(memory_estimate, "machine_bytes", lambda: MACHINE_BYTES),
    ):
        yield


class CommandLines:
    """Draws random command lines, mostly of existing commands, options and values."""

    def __init__(self, draw: random.Random) -> None:
        self.draw = draw
        self.keys = list(settings.fields())

    def odd(self) -> str:
        """Draw an odd argument."""
        return self.draw.choice(ODD_ARGUMENTS)

    def of(self, choices: Sequence[str]) -> str:
        """Draw one of `choices`, or rarely an odd argument."""
        return self.odd() if self.draw.random() < 0.06 else self.draw.choice(choices)

    def set(self) -> list[str]:
        """Draw a --set option."""
        key = self.of(self.keys)
        value = self.draw.choice(
            [*NUMBERS, "true", "adamw", "text", "epoch", "[1]", "'x'", "0.5", "64", "2", self.odd()]
        )
        return ["--set", self.draw.choice([f"{key}={value}", f"{key}={value}", key, f"{key} = {value}"])]

    def options(self, *names: str, most: int = 3) -> list[str]:
        """Draw some of `names`, each a flag or NAME=kind of value."""
        options: list[str] = []
        for _ in range(self.draw.randint(0, most)):
            name, _, kind = self.draw.choice(names).partition("=")
            match kind:
                case "":
                    options.append(name)
                case "set":
                    options += self.set()
                case "number":
                    options += [name, self.of(NUMBERS)]
                case "small":
                    options += [name, self.draw.choice(["1", "3", "0", "-1", "x"])]
                case _:
                    options += [name, self.of(kind.split("|"))]
        return options

    def line(self) -> list[str]:
        """Draw a command line."""
        kinds: list[Callable[[], list[str]]] = [
            lambda: ["run", self.of(SOURCES[:9]), *self.tiny(), *self.options(
                "--set=set", "--set=set", "--steps=number", "--require=val_loss<=1|loss<1|exact_match>=x", "--json",
                "--quiet", "--out=new|runs/one|text.txt/x", "--resume=one|runs/one|x")],
            lambda: ["run", "--resume", self.of(RUNS), *self.options("--steps=small", "--json", "--quiet")],
            lambda: ["generate", self.of(RUNS), "--prompt", self.of(["123", "x", ""]), "--max-new-tokens",
                     self.draw.choice(["1", "3", "0", "x"]), *self.options(
                         "--temperature=number", "--top-k=number", "--top-p=number", "--seed=number", "--json",
                         "--weights=auto|last|best|x")],
            lambda: ["batch", self.of(SOURCES), *self.options(
                "--set=set", "--step=number", "--examples=number", "--json")],
            lambda: ["config", self.of(["show", "validate"]), self.of(SOURCES), *self.options("--set=set", "--json")],
            lambda: ["config", self.of(["schema", "shw"]), *self.options("--json", "--set=set")],
            lambda: ["data", self.of(["info"]), self.of(SOURCES), *self.options("--set=set", "--json")],
            lambda: ["runs", self.of(["ls", "show"]), *self.options("--json", "one", "runs/one", "x")],
            lambda: ["doctor", self.of(SOURCES), *self.options(
                "--set=set", "--timeout=number", "--json", "--seed=number")],
            lambda: ["randomness", self.of(SOURCES), *self.options("--set=set", "--step=number", "--pin", "--json")],
            lambda: ["serve", *self.options("--host=127.0.0.1|0.0.0.0|::1", "--port=number", "reverse", most=4)],
            lambda: [self.of(["presets", "faults", "app", "bench", "prests"]), *self.options("--json", "reverse", "x")],
            lambda: [self.odd() for _ in range(self.draw.randint(0, 4))],
        ]  # fmt: skip
        line = self.draw.choice(kinds)()
        if self.draw.random() < 0.1:
            line.insert(self.draw.randint(0, len(line)), self.odd())
        return line

    def tiny(self) -> list[str]:
        """Return the --set options of a tiny model."""
        return [part for pair in TINY for part in ("--set", pair)]


def prepare(folder: Path) -> None:
    """Create what the command lines refer to: a config, half a config, a text and a run."""
    (folder / "tiny.toml").write_text(settings.to_toml(settings.load("reverse", TINY)), "utf-8")
    (folder / "torn.toml").write_text("[model]\nd_model = ", "utf-8")
    (folder / "text.txt").write_text("so it goes. " * 400, "utf-8")
    code, out, err = call(["run", "tiny.toml", "--out", "runs/one", "--quiet"])
    assert code in (0, 130), (code, out, err)


def call(line: Sequence[str]) -> tuple[int, str, str]:
    """Run a command line; return its exit code, standard output and standard error. Raises whatever it raises."""
    out = io.StringIO()
    err = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["tui-lab", *line]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main.main()
            code = 0
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
    return code, out.getvalue(), err.getvalue()


def judge(line: Sequence[str], code: int, out: str, err: str) -> None:
    """Check exit code, output and memory. Raises AssertionError."""
    assert code in (0, 1, 2, 3, 4, 129, 130, 143), f"exit code {code}"
    assert "Traceback" not in err, err
    assert not CONTROLS.search(out) and not CONTROLS.search(err), "control characters in the output"
    if code == 2 and line:
        assert err.strip() or out.strip(), "refused without a message"
    assert len(err) < 20_000, "an endless message"
    assert psutil.Process().memory_info().rss < LARGEST_RSS, "too much memory"


def fuzz(times: int, seed: int) -> Counter[str]:
    """Count the exit codes. Raises AssertionError with the command line that failed."""
    command_lines = CommandLines(random.Random(seed))
    counts = Counter[str]()
    previous_handler = signal.signal(signal.SIGALRM, on_alarm)
    previous_folder = Path.cwd()
    with (
        tempfile.TemporaryDirectory() as name,
        cut_short(),
        mock.patch.dict(os.environ, TUI_LAB_RUNS="runs", TUI_LAB_CACHE=str(Path(name) / "cache"), NO_COLOR="1"),
    ):
        try:
            os.chdir(name)
            prepare(Path(name))
            for number in range(times):
                line = command_lines.line()
                signal.alarm(SECONDS)
                try:
                    code, out, err = call(line)
                    judge(line, code, out, err)
                except BaseException as error:
                    raise AssertionError(f"seed {seed}, number {number}: tui-lab {line!r}: {error!r}") from error
                finally:
                    signal.alarm(0)
                counts[f"exit {code}"] += 1
        finally:
            os.chdir(previous_folder)
            signal.signal(signal.SIGALRM, previous_handler)
    return counts


if __name__ == "__main__":
    run_fuzzer(__doc__, "command lines", fuzz)
