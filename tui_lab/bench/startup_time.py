"""How long a person waits: for --help, for the first frame, for the first step."""

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
    """Seconds from the start of the process; medians and the range."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        return {
            "machine": machine(),
            "help": _spread([_seconds(["--help"], folder, "") for _ in range(times)]),
            "first_frame": first_frame(folder, SIZE, times),
            "first_step": _spread(
                [_seconds(["run", "reverse", "--json", "--out", str(folder / str(i))], folder, '"event": "step"')
                 for i in range(times)]
            ),
        }  # fmt: skip


def _spread(seconds: list[float]) -> dict[str, Any]:
    return {"median_s": statistics.median(seconds), "spread_s": [min(seconds), max(seconds)], "starts": len(seconds)}


def _seconds(arguments: list[str], folder: Path, until: str) -> float:
    """From the start of `tui-lab` to its first line with `until` in it, or to its end."""
    began = time.perf_counter()
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
                return time.perf_counter() - began
        process.wait()
        return time.perf_counter() - began
    finally:
        process.kill()
        process.wait()
