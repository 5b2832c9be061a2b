"""Trials per minute of a sweep: one trial at a time with all threads, and as `--jobs auto` chooses, in turn."""

import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tui_lab.core.runs.sweep.folder import read_sweep
from tui_lab.runs.machine import machine
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import ConfigError

STEPS = {"reverse": 500, "socrates": 80}
"""Steps of a trial: with one job, a trial takes some ten seconds on two cores."""
OTHER_STEPS = 50
TRIALS = 4
TURNS = 3
JOBS = ("1", "auto")


def bench_sweep(presets: Sequence[str] = (), trials: int = TRIALS, turns: int = TURNS) -> dict[str, Any]:
    """Return figures of each preset as JSON values. A sweep is measured from its start to its end, its table included.

    Raises ConfigError if a sweep fails.
    """
    return {
        "machine": machine(),
        "trials": trials,
        "turns": turns,
        "presets": {preset: _preset(preset, trials, turns) for preset in presets or STEPS},
    }


def _preset(preset: str, trials: int, turns: int) -> dict[str, Any]:
    steps = STEPS.get(preset, OTHER_STEPS)
    seconds: dict[str, list[float]] = {jobs: [] for jobs in JOBS}
    workers: dict[str, dict[str, int]] = {}
    for turn in range(turns):
        for jobs in JOBS if turn % 2 else reversed(JOBS):
            wall, workers[jobs] = _sweep(preset, steps, trials, jobs)
            seconds[jobs].append(wall)
    return {
        "steps": steps,
        "rows": {
            f"--jobs {jobs}": workers[jobs] | {"trials_per_minute": 60 * trials / statistics.median(seconds[jobs])}
            for jobs in JOBS
        },
        "auto_is_faster": statistics.median(one / auto for one, auto in zip(*seconds.values(), strict=True)),
    }


def _sweep(preset: str, steps: int, trials: int, jobs: str) -> tuple[float, dict[str, int]]:
    """Train a sweep of `trials` seeds. Return its seconds, and its jobs and the threads of each."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "sweep"
        options = ["--seeds", str(trials), "--steps", str(steps), "--jobs", jobs, "--out", str(out), "--json"]
        command = python_module("tui_lab", "sweep", preset, *options, "--set", "train.eval_every=0")
        start = time.perf_counter()
        process = subprocess.run(command, stdout=subprocess.PIPE, env=child_environment(), check=False)
        seconds = time.perf_counter() - start
        if process.returncode != 0:
            raise ConfigError.of("unavailable", f"the sweep ended with exit code {process.returncode}", key="bench")
        rows = json.loads(process.stdout.splitlines()[-1])["trials"]
        if any(row["state"] != "done" for row in rows):
            raise ConfigError.of("unavailable", "a trial of the sweep failed", key="bench")
        plan = read_sweep(out).plan
        return seconds, {"jobs": plan.jobs, "threads": int(plan.base["train"]["threads"])}
