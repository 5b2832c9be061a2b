"""What `tui-lab watch` costs a script: the time of its steps, and memory as the run gets longer."""

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tui_lab.bench import watched_loop
from tui_lab.bench.ui_overhead import confidence
from tui_lab.runs.machine import machine
from tui_lab.util.child import child_environment, python_module

MIB = 2**20
STEPS_A_TURN = {"100K": 20, "10M": 2}
"""Short turns: other load on the machine changes over seconds, and so affects both sides of a pair alike."""
LIMITS = {"100K": 0.05, "10M": 0.02}
"""The largest allowed share of a step's time."""
PAIRS = 3
"""Each pair of processes has other addresses in memory, which alone changes the speed by a few percent."""
TURNS = 24
FIRST_STEPS = 1000
"""Steps before memory is measured the first time."""
MEMORY_STEPS = 10_000


@dataclass
class Script:
    """A process that runs watched_loop.py. parameters: of its model."""

    process: "subprocess.Popen[str]"
    parameters: int

    def seconds(self, steps: int) -> float:
        """Let it make `steps` optimizer steps and return how long they took. Raises RuntimeError if it ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        return _number(self.process)

    def memory_mib(self) -> float:
        """Return the resident memory of the process."""
        memory: float = psutil.Process(self.process.pid).memory_info().rss / MIB
        return memory


def _number(process: "subprocess.Popen[str]") -> float:
    """Return the next line of `process` that is a number; `tui-lab watch` may print others."""
    assert process.stdout is not None
    for line in process.stdout:
        try:
            return float(line)
        except ValueError:
            continue
    raise RuntimeError(f"the script ended with exit code {process.wait()}")


@contextmanager
def script(folder: Path, *arguments: str, watched: bool) -> Iterator[Script]:
    """Start the script, watched or as it is; it ends at the end of the with block."""
    path = str(watched_loop.__file__)
    if watched:
        command = python_module("tui_lab", "watch", "--headless", "--out", str(folder), path, *arguments)
    else:
        command = [sys.executable, path, *arguments]
    with (folder.parent / f"{folder.name}.log").open("w") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env=child_environment()
        )
        try:
            yield Script(process, int(_number(process)))
        finally:
            process.terminate()
            process.communicate()


def bench_watch(
    sizes: tuple[str, ...] = ("100K", "10M"),
    pairs: int = PAIRS,
    turns: int = TURNS,
    memory_steps: int = MEMORY_STEPS,
    device: str = "cpu",
) -> dict[str, Any]:
    """Return all figures as JSON values. device: "cpu" or "cuda"."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "machine": machine(),
            "device": device,
            "time": {size: _size(size, folder, pairs, turns, device) for size in sizes},
            "memory": memory(folder, memory_steps),
        }


def _size(size: str, folder: Path, pairs: int, turns: int, device: str) -> dict[str, Any]:
    variants = {"no_clipping": (device,), "clipping": (device, "clip")}
    return {name: overhead(size, options, folder, pairs, turns) for name, options in variants.items()}


def overhead(size: str, options: tuple[str, ...], folder: Path, pairs: int, turns: int) -> dict[str, Any]:
    """Compare the script as it is with the script watched. The two processes take turns; the other one waits."""
    steps = STEPS_A_TURN[size] * (20 if "cuda" in options else 1)
    plain: list[float] = []
    watched: list[float] = []
    for pair in range(pairs):
        with ExitStack() as stack:
            runs = folder / f"{size}-{len(options)}-{pair}"
            runs.mkdir()
            one = stack.enter_context(script(runs / "plain", size, *options, watched=False))
            other = stack.enter_context(script(runs / "watched", size, *options, watched=True))
            for either in (one, other):
                either.seconds(steps)
            for turn in range(turns):
                sides = [(one, plain), (other, watched)]
                for side, seconds in sides if turn % 2 else reversed(sides):
                    seconds.append(side.seconds(steps) / steps)
            parameters = one.parameters
    return {"parameters": parameters, **comparison(plain, watched, LIMITS[size])}


def comparison(plain: list[float], watched: list[float], limit: float) -> dict[str, Any]:
    """Return the figures of seconds per step, turn by turn.

    overhead: of the medians. overhead_95 and overhead_quartiles: of the turns; the first is an interval for their
    geometric mean.
    """
    ratios = [b / a for a, b in zip(plain, watched, strict=True)]
    ratio = statistics.median(watched) / statistics.median(plain)
    return {
        "plain_ms": 1e3 * statistics.median(plain),
        "watched_ms": 1e3 * statistics.median(watched),
        "overhead": ratio - 1,
        "overhead_95": [share - 1 for share in confidence(ratios)],
        "overhead_quartiles": [q - 1 for q in statistics.quantiles(ratios, n=4)[::2]],
        "turns": len(ratios),
        "limit": limit,
        "within_limit": ratio - 1 <= limit,
    }


def memory(folder: Path, steps: int) -> dict[str, Any]:
    """Compare the resident memory after FIRST_STEPS and after `steps` steps of a tiny model, watched and not."""
    figures: dict[str, Any] = {"steps": [FIRST_STEPS, steps]}
    for watched in (False, True):
        with script(folder / f"memory-{watched}", "tiny", watched=watched) as process:
            process.seconds(FIRST_STEPS)
            first = process.memory_mib()
            seconds = process.seconds(steps - FIRST_STEPS)
            last = process.memory_mib()
        name = "watched" if watched else "plain"
        figures[name] = {
            "mib": [first, last],
            "growth_mib": last - first,
            "ms_a_step": 1e3 * seconds / (steps - FIRST_STEPS),
        }
    return figures
