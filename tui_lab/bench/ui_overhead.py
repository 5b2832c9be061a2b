"""The cost of the app: steps/s compared with headless training, time from key to paint, time to the first frame."""

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
LARGEST_SIDE = 1000
PROGRAM = tuple(python_module("tui_lab"))
SLICE_SECONDS = {"reverse": 4.0, "pseudo-socrates": 6.0}
SLICES = {"reverse": 16, "pseudo-socrates": 12}
"""Many: other load on the machine changes over seconds, and so affects both sides of a pair alike. Not shorter: a frame
is due when the app is continued, which a slice must not consist of."""
SECONDS_TO_REPAINT = 0.7
"""A program that was stopped takes the terminal again and paints the whole screen."""
RESAMPLES = 2000
KEYS = 200
EDIT_PROMPT = ("4", "i")
KEYS_APART = 1.0
"""Seconds. Textual moves the focus a little later, and a key goes to the widget that has the focus."""
BOXES_TO_TOKENS = 5
MANY_TOKENS = "50000"
FIRST_KEY = 0x4E00
"""Letters from here on are nowhere else on the screen, and each is sent once, so that its paint is recognized."""


def parse_size(text: str) -> tuple[int, int]:
    """Parse columns and lines from a text such as "120x40". Raises ConfigError."""
    match = re.fullmatch(r"(\d+)[x×](\d+)", text.strip())
    columns, lines = (int(match[1]), int(match[2])) if match else (0, 0)
    if not (1 <= columns <= LARGEST_SIDE and 1 <= lines <= LARGEST_SIDE):
        raise ConfigError.of(
            "invalid",
            "not the size of a terminal",
            key="--size",
            value=text,
            allowed=f"COLUMNSxLINES, each 1 to {LARGEST_SIDE}, as in 120x40",
        )
    return columns, lines


def steps_done(run: Path) -> int:
    """Return the number of the last step in the run's event log."""
    events = run / "events.jsonl"
    if not events.exists():
        return 0
    with events.open("rb") as stream:
        stream.seek(max(0, events.stat().st_size - 4096))
        numbers = re.findall(rb'\{"event": "step", "step": (\d+)', stream.read())
    return int(numbers[-1]) if numbers else 0


@dataclass
class Side:
    """One of the two processes that run in turn."""

    pid: int
    run: Path
    rates: list[float]


def cost(preset: str, folder: Path, size: tuple[int, int], slices: int | None = None) -> dict[str, Any]:
    """Compare steps/s of the same training headless and in the app. They run in turn; the other one is stopped."""
    config = _config_file(preset, folder)
    headless_run = folder / f"headless-{preset}"
    runs = folder / f"app-{preset}"
    headless = subprocess.Popen(
        [*PROGRAM, "run", str(config), "--out", str(headless_run), "--quiet"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=child_environment(),
    )
    terminal = Terminal([*PROGRAM, "app", str(config)], size, folder, TUI_LAB_RUNS=str(runs))
    stop = threading.Event()
    reader = threading.Thread(target=_keep_reading, args=(terminal, stop), daemon=True)
    reader.start()
    try:
        sides = [Side(headless.pid, headless_run, []), Side(terminal.pid, _first_run(runs), [])]
        _alternate(sides, slices or SLICES.get(preset, 20), SLICE_SECONDS.get(preset, 3.0))
    finally:
        os.kill(headless.pid, signal.SIGCONT)
        headless.kill()
        headless.wait()
        stop.set()
        reader.join()
        terminal.kill()
    return _comparison(sides[0].rates, sides[1].rates)


def _config_file(preset: str, folder: Path) -> Path:
    """Write a preset that trains without end."""
    path = folder / f"{preset}.toml"
    show = [*PROGRAM, "config", "show", preset, "--set", "train.steps=1000000"]
    shown = subprocess.run(show, capture_output=True, text=True, check=True, env=child_environment())
    path.write_text(shown.stdout, "utf-8")
    return path


def _alternate(sides: Sequence[Side], slices: int, seconds: float) -> None:
    """Append a rate to each side's `rates`, `slices` times, while only that side runs."""
    for side in sides:
        _wait_for_steps(side.run, 3)
    for side in sides:
        os.kill(side.pid, signal.SIGSTOP)
    for turn in range(slices):
        for side in sides if turn % 2 else reversed(sides):
            side.rates.append(_rate(side, seconds))


def _comparison(headless: Sequence[float], app: Sequence[float]) -> dict[str, Any]:
    shares = [b / a for a, b in zip(headless, app, strict=True)]
    return {
        "headless_steps_per_s": statistics.median(headless),
        "app_steps_per_s": statistics.median(app),
        "share": geometric_mean(shares),
        "share_95": confidence(shares),
        "share_spread": [min(shares), max(shares)],
        "slices": len(shares),
    }


def geometric_mean(shares: Sequence[float]) -> float:
    """Return the geometric mean, which for ratios does not depend on which side is the denominator."""
    return statistics.geometric_mean(shares)


def confidence(shares: Sequence[float], seed: int = 0) -> list[float]:
    """Return the 95% interval of the mean share by the bootstrap (Efron 1979): the 2.5th and 97.5th percentiles."""
    draw = random.Random(seed)
    means = sorted(geometric_mean(draw.choices(shares, k=len(shares))) for _ in range(RESAMPLES))
    return [means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1]]


def _keep_reading(terminal: Terminal, stop: threading.Event) -> None:
    """Read the app's output, since the app would wait for a terminal that does not accept any."""
    while not stop.is_set():
        terminal.read(0.2)


def _rate(side: Side, seconds: float) -> float:
    """Return steps/s, measured between two ends of steps, since a slow model makes only a few in `seconds`."""
    os.kill(side.pid, signal.SIGCONT)
    time.sleep(SECONDS_TO_REPAINT)
    _next_step(side.run)  # Perhaps the one that was interrupted.
    start, first_step = _next_step(side.run)
    while True:
        end, last_step = _next_step(side.run)
        if end - start >= seconds:
            os.kill(side.pid, signal.SIGSTOP)
            return (last_step - first_step) / (end - start)


def _next_step(run: Path) -> tuple[float, int]:
    """Wait for the next step; return the time, exact to 5 ms, and the number of the step."""
    before = steps_done(run)
    while (done := steps_done(run)) == before:
        time.sleep(0.005)
    return time.perf_counter(), done


def _first_run(folder: Path) -> Path:
    for _ in range(600):
        if configs := list(folder.glob("*/config.toml")):
            return configs[0].parent
        time.sleep(0.1)
    raise TimeoutError(f"the app created no run in {folder}")


def _wait_for_steps(run: Path, n: int) -> None:
    for _ in range(1200):
        if steps_done(run) >= n:
            return
        time.sleep(0.1)
    raise TimeoutError(f"no {n} steps in {run}")


def key_to_paint(
    preset: str, folder: Path, size: tuple[int, int], keys: int = KEYS, *, generating: bool = False
) -> dict[str, Any]:
    """Measure the time from a key to its letter in the prompt, while `preset` trains.

    generating: the app also generates text meanwhile.
    """
    runs = folder / f"keys-{preset}-{generating}"
    terminal = Terminal([*PROGRAM, "app", preset], size, folder, TUI_LAB_RUNS=str(runs))
    try:
        _wait_for_steps(_painting(terminal, runs), 3)
        for key in EDIT_PROMPT:
            terminal.send(key)
            terminal.read(KEYS_APART)
        if generating:
            _generate(terminal)
        times = []
        for i in range(keys):
            letter = chr(FIRST_KEY + i)
            terminal.send(letter)
            times.append(terminal.wait_for(letter, 5.0))
            terminal.read(0.05 + 0.01 * (i % 7))
            if i % 20 == 19:
                terminal.send("\x15")  # Clears the field: a long text takes longer to paint.
                terminal.read(0.2)
    finally:
        terminal.kill()
    ordered = sorted(times)
    return {
        "p50_ms": 1000 * statistics.median(ordered),
        "p99_ms": 1000 * ordered[int(0.99 * (len(ordered) - 1))],
        "keys": keys,
    }


def _generate(terminal: Terminal) -> None:
    """Generate more tokens than the measurement takes, and move the focus back to the prompt."""
    for keys in (*["\t"] * BOXES_TO_TOKENS, "\x15", MANY_TOKENS, "\r"):
        terminal.send(keys)
        terminal.read(KEYS_APART)
    terminal.wait_for("▌", 60.0)
    for _ in range(BOXES_TO_TOKENS):
        terminal.send("\x1b[Z")
        terminal.read(KEYS_APART)


def _painting(terminal: Terminal, runs: Path) -> Path:
    """Wait for the app's run and return its folder. Output is read meanwhile, since the app would wait for that."""
    for _ in range(600):
        terminal.read(0.1)
        if configs := list(runs.glob("*/config.toml")):
            return configs[0].parent
    raise TimeoutError(f"the app created no run in {runs}")


def first_frame(folder: Path, size: tuple[int, int], times: int = 7, preset: str = "") -> dict[str, Any]:
    """Measure the seconds from the start of the process to Home, or to the empty lab over a preset, being painted.

    The first start, which compiles the modules to bytecode, does not count.
    """
    seconds = []
    for _ in range(1 + times):
        arguments = ["app", preset] if preset else []
        terminal = Terminal([*PROGRAM, *arguments], size, folder, TUI_LAB_RUNS=str(folder / "none"))
        try:
            terminal.wait_for("Generation" if preset else "Presets", 20.0)
            seconds.append(time.perf_counter() - terminal.started_at)
        finally:
            terminal.kill()
    counted = seconds[1:]
    return {"median_s": statistics.median(counted), "spread_s": [min(counted), max(counted)], "starts": times}


def bench_ui(presets: Sequence[str], size: tuple[int, int] = SIZE) -> dict[str, Any]:
    """Return all figures, in a terminal of `size` (columns, lines), as JSON values."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "size": list(size),
            "first_frame": first_frame(folder, size),
            "first_frame_of_the_lab": first_frame(folder, size, preset="reverse"),
            "cost": {preset: cost(preset, folder, size) for preset in presets},
            "key_to_paint": {preset: key_to_paint(preset, folder, size) for preset in presets},
            "key_to_paint_while_generating": {
                preset: key_to_paint(preset, folder, size, generating=True)
                for preset in presets
                if settings.load(preset).data.task == "text"
            },
        }
