"""Checks that need a GPU, printed as JSON: `make device`. Takes about three minutes.

A float16 script gives the same weights with and without `tui-lab watch`, its recorded losses are those that it prints,
the doctor finds nothing in it and names a mistake, watching costs it little, and our own trainer learns on the GPU.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from tools import gpu_loop
from tui_lab.bench.watch_cost import bench_watch
from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.util.child import child_environment, python_module

STEPS = 40


def run(command: list[str]) -> str:
    """The stdout of `command`. Raises CalledProcessError."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=child_environment()).stdout


def same_weights(folder: Path) -> dict[str, Any]:
    """Compare the script as it is, twice, and watched."""
    script = [str(gpu_loop.__file__), str(STEPS)]
    *losses, plain = run([sys.executable, *script]).split()
    *_, again = run([sys.executable, *script]).split()
    out = folder / "watched"
    *_, watched = run(python_module("tui_lab", "watch", "--headless", "--out", str(out), *script)).split()
    steps = [event for event in Run(out).events() if isinstance(event, ev.StepDone)]
    printed = [float(loss) for loss in losses]
    return {
        "plain_repeats": plain == again,
        "watched_is_bit_equal": plain == watched,
        "sha256": watched,
        "steps": [len(printed), len(steps)],
        "skipped": steps[-1].extra.get("skipped_steps", 0) if steps[-1].extra else 0,
        "largest_loss_difference": _largest_difference(printed, [step.loss for step in steps]),
        "last_step": steps[-1].to_json(),
    }


def _largest_difference(printed: list[float], recorded: list[float]) -> float:
    """Skipped steps are printed but not recorded, and they come first: the loss scale begins too large."""
    pairs = zip(printed[len(printed) - len(recorded) :], recorded, strict=True)
    return max(abs(a - b) for a, b in pairs)


def doctor(*options: str) -> dict[str, Any]:
    """Diagnose the script with `options`."""
    began = time.perf_counter()
    command = python_module("tui_lab", "doctor", str(gpu_loop.__file__), "--json", "--", "200", *options)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=child_environment())
    report = json.loads(done.stdout)
    return {
        "exit_code": done.returncode,
        "seconds": time.perf_counter() - began,
        "findings": [finding["code"] for finding in report["findings"]],
        "hints": [hint["code"] for hint in report["hints"]],
        "crashed": report["crashed"],
        "passed": report["passed"],
        "not_judged": report["not_judged"],
        "check_seconds": report["seconds"],
    }


def own_trainer(folder: Path) -> dict[str, Any]:
    """Train the reversing transformer on the GPU."""
    began = time.perf_counter()
    out = str(folder / "reverse")
    lines = run(python_module("tui_lab", "run", "reverse", "--set", "train.device=cuda", "--json", "--out", out))
    summary = json.loads(lines.splitlines()[-1])
    return {"seconds": time.perf_counter() - began, "exact_match": summary["exact_match"], "steps": summary["steps"]}


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("no GPU: torch.cuda.is_available() is False")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for check, figures in (
            ("device", lambda: {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__}),
            ("same_weights", lambda: same_weights(folder)),
            ("doctor_healthy", lambda: doctor()),
            ("doctor_faulty", lambda: doctor("--scaled-clip")),
            ("own_trainer", lambda: own_trainer(folder)),
            ("cost", lambda: bench_watch(pairs=2, turns=10, memory_steps=3000, device="cuda")),
        ):
            try:
                result: Any = figures()
            except Exception as error:
                result = {"failed": repr(error)}
            sys.stdout.write(json.dumps({check: result}, indent=1) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
