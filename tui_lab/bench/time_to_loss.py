"""Time to a train loss of 0.37 for the journal's final model: by tui-lab with two vocabularies, and nanoGPT-style.

All have the preset's batches and learning rates. The loop runs in float32, under bfloat16 autocast where the processor
multiplies bfloat16, and once more with the batch size that the preset had before the search: the ratio to that loop
includes the tokens that a smaller batch saves.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tui_lab.bench.baselines import in_precision
from tui_lab.core.config import settings
from tui_lab.core.kernels.linear import onednn_has_bf16
from tui_lab.core.kernels.precision import Precision
from tui_lab.runs.machine import machine
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import ConfigError

PRESET = "pseudo-socrates"
TARGET = 0.37
STEPS = 4000
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
"""Of the loop: whichever is faster for it is its best."""
EARLIER_BATCH_SIZE = 16
"""Of the preset, before the search that docs/performance.md records."""


def bench_headline(text: str, target: float = TARGET, *, loop: bool = True) -> dict[str, Any]:
    """Return all figures as JSON values. The runs are separate processes, one after the other."""
    overrides = [f"data.path={Path(text).expanduser().absolute()}" if text != "bundled" else "data.path=bundled"]
    overrides += [f"train.target_loss={target}", f"train.steps={STEPS}"]
    settings.load(PRESET, overrides)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {
            "tui-lab": _ours(overrides, folder / "full"),
            "tui-lab, data.vocab = seen": _ours([*overrides, "data.vocab=seen"], folder / "seen"),
        }
        loops = _loops(overrides, folder) if loop else {}
        if loops:
            seconds = rows["tui-lab"]["wall_s"]
            rows["tui-lab"]["loop_takes_times"] = {name: row["wall_s"] / seconds for name, row in loops.items()}
        rows |= loops
    return {"machine": machine(), "preset": PRESET, "text": Path(text).name, "target_train_loss": target, "rows": rows}


def _ours(overrides: list[str], out: Path) -> dict[str, Any]:
    options = [option for override in overrides for option in ("--set", override)]
    figures = _child("tui_lab", "run", PRESET, *options, "--out", str(out), "--json")
    summary = figures.pop("last")
    keys = ("reason", "steps", "parameters", "train_loss", "val_loss", "best_val_loss", "tokens", "train_seconds")
    return figures | {key: summary[key] for key in keys}


def _loops(overrides: list[str], folder: Path) -> dict[str, dict[str, Any]]:
    figures = {
        in_precision("nanoGPT-style loop", precision): _loop([*overrides, f"train.precision={precision}"], folder)
        for precision in PRECISIONS
        if precision == "fp32" or onednn_has_bf16()
    }
    earlier = [*overrides, "train.precision=fp32", f"train.batch_size={EARLIER_BATCH_SIZE}"]
    return figures | {f"nanoGPT-style loop, {EARLIER_BATCH_SIZE} rows": _loop(earlier, folder)}


def _loop(overrides: list[str], folder: Path) -> dict[str, Any]:
    config = folder / "config.toml"
    config.write_text(settings.to_toml(settings.load(PRESET, overrides)), "utf-8")
    figures = _child("tui_lab.bench.baseline_process", str(config))
    last: dict[str, Any] = figures.pop("last")
    return figures | last


def _child(module: str, *arguments: str) -> dict[str, Any]:
    """Run `module` and return its wall time, its peak memory and its last line of JSON. Raises ConfigError."""
    start = time.perf_counter()
    process = subprocess.Popen(
        python_module(module, *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=child_environment(),
    )
    assert process.stdout is not None
    last = ""
    for line in process.stdout:
        last = line
    _, status, usage = os.wait4(process.pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code != 0:
        raise ConfigError.of("unavailable", f"{module} ended with exit code {code}", key="bench")
    seconds = time.perf_counter() - start
    return {"wall_s": seconds, "peak_memory_mib": round(usage.ru_maxrss / 1024), "last": json.loads(last)}
