"""What the app costs: steps/s under it against headless, interleaved; key to paint; time to the first frame."""

import os
import random
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.bench.pseudo_terminal import Terminal
from tui_lab.core.config import settings
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import ConfigError

SIZE = (120, 40)
MOST = 1000
PROGRAM = tuple(python_module("tui_lab"))
SLICE_SECONDS = {"reverse": 1.5, "pseudo-socrates": 3.0}
SLICES = {"reverse": 20, "pseudo-socrates": 20}
"""Short ones, and many: what else the machine does moves over seconds, and so touches both sides of a pair alike."""
RESAMPLES = 2000
KEYS = 120
KEYS_APART = 1.0
"""Seconds, so that Textual has moved the focus before the next key comes: a key goes to what has it at that moment."""
BOXES_TO_TOKENS, MANY_TOKENS = 5, "50000"
FIRST_KEY = 0x4E00
"""Letters that occur nowhere on the screen, each sent once, so that its paint can be told from any other."""


def parse_size(text: str) -> tuple[int, int]:
    """Columns and lines of "120x40". Raises ConfigError."""
    found = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    if found is None or not (MOST >= int(found[1]) > 0 < int(found[2]) <= MOST):
        raise ConfigError([f"--size {text!r}: allowed is COLUMNSxLINES, each 1 to {MOST}, as in 120x40"])
    return int(found[1]), int(found[2])


def steps_done(run: Path) -> int:
    """Updates recorded so far."""
    events = run / "events.jsonl"
    if not events.exists():
        return 0
    with events.open("rb") as stream:
        stream.seek(max(0, events.stat().st_size - 4096))
        numbers = re.findall(rb'\{"event": "step", "step": (\d+)', stream.read())
    return int(numbers[-1]) if numbers else 0


@dataclass
class Side:
    """One of the two processes that take turns."""

    pid: int
    run: Path
    rates: list[float]


def cost(preset: str, folder: Path, size: tuple[int, int], slices: int | None = None) -> dict[str, Any]:
    """Steps/s of the same training headless and under the app: they run by turns, the other one stopped."""
    config = folder / f"{preset}.toml"
    show = [*PROGRAM, "config", "show", preset, "--set", "train.steps=1000000"]
    made = subprocess.run(show, capture_output=True, text=True, check=True, env=child_environment()).stdout
    config.write_text(made, "utf-8")
    runs = folder / f"app-{preset}"
    quiet = subprocess.Popen(
        [*PROGRAM, "run", str(config), "--out", str(folder / f"headless-{preset}"), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
    )
    terminal = Terminal([*PROGRAM, "app", str(config)], size, folder, TUI_LAB_RUNS=str(runs))
    stop = threading.Event()
    reader = threading.Thread(target=_keep_reading, args=(terminal, stop), daemon=True)
    reader.start()
    try:
        run = _first_run(runs)
        sides = [Side(quiet.pid, folder / f"headless-{preset}", []), Side(terminal.pid, run, [])]
        for side in sides:
            _wait_for_steps(side.run, 3)
        for side in sides:
            os.kill(side.pid, signal.SIGSTOP)
        for turn in range(slices or SLICES.get(preset, 20)):
            for side in sides if turn % 2 else reversed(sides):
                side.rates.append(_rate(side, SLICE_SECONDS.get(preset, 3.0)))
    finally:
        os.kill(quiet.pid, signal.SIGCONT)
        quiet.kill()
        quiet.wait()
        stop.set()
        reader.join()
        terminal.kill()
    headless, app = (statistics.median(side.rates) for side in sides)
    shares = [b / a for a, b in zip(sides[0].rates, sides[1].rates, strict=True)]
    return {
        "headless_steps_per_s": headless,
        "app_steps_per_s": app,
        "share": geometric_mean(shares),
        "share_95": confidence(shares),
        "share_spread": [min(shares), max(shares)],
        "slices": len(shares),
    }


def geometric_mean(shares: Sequence[float]) -> float:
    """Of ratios: it is the same whichever side stands below the line."""
    return statistics.geometric_mean(shares)


def confidence(shares: Sequence[float], seed: int = 0) -> list[float]:
    """The 95 % interval of the mean share, by the bootstrap (Efron 1979): its 2.5th and 97.5th percentile."""
    draw = random.Random(seed)
    means = sorted(geometric_mean(draw.choices(shares, k=len(shares))) for _ in range(RESAMPLES))
    return [means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]]


def _keep_reading(terminal: Terminal, stop: threading.Event) -> None:
    """Lest the app wait for a terminal that takes nothing."""
    while not stop.is_set():
        terminal.read(0.2)


def _rate(side: Side, seconds: float) -> float:
    """Steps/s between two ends of steps, at least `seconds` apart: a slow model makes only a few in a slice."""
    os.kill(side.pid, signal.SIGCONT)
    _next_step(side.run)  # The one that was interrupted.
    began, before = _next_step(side.run)
    while True:
        ended, after = _next_step(side.run)
        if ended - began >= seconds:
            os.kill(side.pid, signal.SIGSTOP)
            return (after - before) / (ended - began)


def _next_step(run: Path) -> tuple[float, int]:
    """When a further step was recorded, to 5 ms, and how many there are then."""
    before = steps_done(run)
    while (done := steps_done(run)) == before:
        time.sleep(0.005)
    return time.perf_counter(), done


def _first_run(folder: Path) -> Path:
    for _ in range(600):
        if found := list(folder.glob("*/config.toml")):
            return found[0].parent
        time.sleep(0.1)
    raise TimeoutError(f"the app made no run in {folder}")


def _wait_for_steps(run: Path, n: int) -> None:
    for _ in range(1200):
        if steps_done(run) >= n:
            return
        time.sleep(0.1)
    raise TimeoutError(f"no {n} steps in {run}")


def key_to_paint(
    preset: str, folder: Path, size: tuple[int, int], keys: int = KEYS, *, speaking: bool = False
) -> dict[str, Any]:
    """Seconds from a letter sent to it being painted in the prompt, while `preset` trains, and speaks if asked to."""
    runs = folder / f"keys-{preset}-{speaking}"
    terminal = Terminal([*PROGRAM, "app", preset], size, folder, TUI_LAB_RUNS=str(runs))
    try:
        _wait_for_steps(_painting(terminal, runs), 3)
        terminal.send("4")
        terminal.read(1.0)
        if speaking:
            _speak(terminal)
        times = []
        for i in range(keys):
            letter = chr(FIRST_KEY + i)
            terminal.send(letter)
            times.append(terminal.wait_for(letter, 5.0))
            terminal.read(0.05 + 0.01 * (i % 7))
            if i % 20 == 19:
                terminal.send("\x15")  # Clears the field, so that the letter is not one of many to paint.
                terminal.read(0.2)
    finally:
        terminal.kill()
    ordered = sorted(times)
    return {"p50_ms": 1000 * statistics.median(ordered), "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
            "keys": keys}  # fmt: skip


def _speak(terminal: Terminal) -> None:
    """Ask for more tokens than will be made while the keys are measured, and come back to the prompt."""
    for keys in (*["\t"] * BOXES_TO_TOKENS, "\x15", MANY_TOKENS, "\r"):
        terminal.send(keys)
        terminal.read(KEYS_APART)
    terminal.wait_for("▌", 60.0)
    for _ in range(BOXES_TO_TOKENS):
        terminal.send("\x1b[Z")
        terminal.read(KEYS_APART)


def _painting(terminal: Terminal, runs: Path) -> Path:
    """The app's run, once it is there; what is painted meanwhile is read, lest the app wait for us."""
    for _ in range(600):
        terminal.read(0.1)
        if found := list(runs.glob("*/config.toml")):
            return found[0].parent
    raise TimeoutError(f"the app made no run in {runs}")


def first_frame(folder: Path, size: tuple[int, int], times: int = 7) -> dict[str, Any]:
    """Seconds from the start of the process to the chooser being painted."""
    found = []
    for _ in range(times):
        terminal = Terminal(PROGRAM, size, folder, TUI_LAB_RUNS=str(folder / "none"))
        try:
            terminal.wait_for("Presets", 20.0)
            found.append(time.perf_counter() - terminal.started_at)
        finally:
            terminal.kill()
    return {"median_s": statistics.median(found), "spread_s": [min(found), max(found)], "starts": times}


def bench_ui(presets: Sequence[str], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """All figures in a terminal of `size` (columns, lines), as JSON values."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "size": list(size),
            "first_frame": first_frame(folder, size),
            "cost": {preset: cost(preset, folder, size) for preset in presets},
            "key_to_paint": {preset: key_to_paint(preset, folder, size) for preset in presets},
            "key_to_paint_while_speaking": {
                preset: key_to_paint(preset, folder, size, speaking=True)
                for preset in presets
                if settings.load(preset).data.task == "text"
            },
        }
