"""The journal's final model to a train loss of 0.37: ours, ours with the vocabulary seen, and a nanoGPT-style loop."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tui_lab.core.config import settings
from tui_lab.runs.machine import machine
from tui_lab.util.child import child_environment, python_module
from tui_lab.util.errors import ConfigError

PRESET, TARGET, STEPS = "pseudo-socrates", 0.37, 2000


def bench_headline(text: str, target: float = TARGET, *, loop: bool = True) -> dict[str, Any]:
    """All figures as JSON values; each training is a process of its own, one after the other."""
    overrides = [f"data.path={Path(text).expanduser().absolute()}" if text != "bundled" else "data.path=bundled"]
    overrides += [f"train.target_loss={target}", f"train.steps={STEPS}"]
    settings.load(PRESET, overrides)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = {
            "tui-lab": _ours(overrides, folder / "full"),
            "tui-lab, data.vocab = seen": _ours([*overrides, "data.vocab=seen"], folder / "seen"),
        }
        if loop:
            rows["nanoGPT-style loop"] = _loop(overrides, folder)
            rows["tui-lab"]["loop_takes_times"] = rows["nanoGPT-style loop"]["wall_s"] / rows["tui-lab"]["wall_s"]
    return {"machine": machine(), "preset": PRESET, "text": Path(text).name, "target_train_loss": target, "rows": rows}


def _ours(overrides: list[str], out: Path) -> dict[str, Any]:
    sets = [word for override in overrides for word in ("--set", override)]
    found = _child("tui_lab", "run", PRESET, *sets, "--out", str(out), "--json")
    summary = found.pop("last")
    keys = ("reason", "steps", "parameters", "train_loss", "val_loss", "best_val_loss", "tokens", "train_seconds")
    return found | {key: summary[key] for key in keys}


def _loop(overrides: list[str], folder: Path) -> dict[str, Any]:
    config = folder / "config.toml"
    config.write_text(settings.to_toml(settings.load(PRESET, overrides)), "utf-8")
    found = _child("tui_lab.bench.baseline_process", str(config))
    last: dict[str, Any] = found.pop("last")
    return found | last


def _child(module: str, *arguments: str) -> dict[str, Any]:
    """Run `module`: seconds from its start to its end, its peak memory, and its last line of JSON."""
    began = time.perf_counter()
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
    if os.waitstatus_to_exitcode(status) != 0:
        raise ConfigError([f"bench: {' '.join([module, *arguments])} ended with {os.waitstatus_to_exitcode(status)}"])
    seconds = time.perf_counter() - began
    return {"wall_s": seconds, "peak_memory_mib": round(usage.ru_maxrss / 1024), "last": json.loads(last)}
