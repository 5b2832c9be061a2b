"""Startup time: until --help is printed, until the first frame, until the first step."""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tui_lab.bench.ui_overhead import SIZE, first_frame
from tui_lab.runs.machine import machine
from tui_lab.util.child import child_environment, python_module

TIMES = 7


def bench_start(times: int = TIMES) -> dict[str, Any]:
    """Return medians and ranges of the seconds since the process was started."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "machine": machine(),
            "help": _spread([_seconds(["--help"], folder, "") for _ in range(times)]),
            "first_frame": first_frame(folder, SIZE, times),
            "first_step": _spread(
                [
                    _seconds(["run", "reverse", "--json", "--out", str(folder / str(i))], folder, '"event": "step"')
                    for i in range(times)
                ]
            ),
        }


def _spread(seconds: list[float]) -> dict[str, Any]:
    return {"median_s": statistics.median(seconds), "spread_s": [min(seconds), max(seconds)], "starts": len(seconds)}


def _seconds(arguments: list[str], folder: Path, until: str) -> float:
    """Return the seconds from the start of `tui-lab` to its first line that contains `until`, or to its end."""
    start = time.perf_counter()
    process = subprocess.Popen(
        python_module("tui_lab", *arguments),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=child_environment(),
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if until and until in line:
                return time.perf_counter() - start
        process.wait()
        return time.perf_counter() - start
    finally:
        process.kill()
        process.wait()
