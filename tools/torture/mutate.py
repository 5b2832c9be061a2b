"""Damage a run folder in many ways and use it: each use must work or raise a LabError, in bounded memory.

    python -m tools.torture.mutate --times 1000 --seed 0

Prints a JSON line for each mutant and a summary at the end. Exits with 1 when a use failed in any other way.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from tools.torture.mutants import Mutant, mutate
from tui_lab.core import events as ev
from tui_lab.util.errors import ConfigError, DataError, RunError

MEMORY = 2**30
"""Bytes that a worker may use beyond what it needs for an undamaged run."""
SECONDS = 60
"""For one mutant, a hundred times what it needs: only for one that hangs."""
CLEAR = (ConfigError, RunError, DataError)


def create_run(path: Path) -> Path:
    """Train a small run with everything that a run can have: live changes, evaluations, best weights."""
    from tests.core.tiny import tiny
    from tui_lab.core import commands as cmd
    from tui_lab.core.runs import open_run

    opened = open_run.start("sound", tiny("train.eval_every=2", "train.checkpoint_every=4"), path)
    opened.trainer.commands.put(cmd.Set("optim.lr", 0.02))
    for event in opened.run.record(opened.trainer.events()):
        opened.summarizer.update(event)
    opened.run.write_summary(opened.summarizer.summary(str(path)))
    opened.close()
    return path


def use(path: Path) -> dict[str, str]:
    """Do everything with a run that one can do. Return each action's error message, or ""; other errors are raised."""
    return {name: _error_of(action, path) for name, action in ACTIONS.items()}


def _error_of(action: Callable[[Path], None], path: Path) -> str:
    try:
        action(path)
    except CLEAR as error:
        return str(error)
    return ""


def _show(path: Path) -> None:
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.runs.export import summary_of
    from tui_lab.runs.summary_text import summary_text

    run = runs.find(str(path))
    summary_text(summary_of(run))
    run.trainer_config()


def _generate(path: Path) -> None:
    from tui_lab.core.inference.generate import generate
    from tui_lab.core.inference.load_model import load_model
    from tui_lab.core.inference.sampling import Sampling
    from tui_lab.core.runs import folder as runs

    model, tokenizer = load_model(runs.find(str(path)))
    list(generate(model, tokenizer, "12", max_new_tokens=2, sampling=Sampling(0.8, 0, 1.0, 0)))


def _replay(path: Path) -> None:
    from tui_lab.app.session.messages import Ready
    from tui_lab.app.session.state import LabState
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.training.task_factory import build_task

    run = runs.find(str(path))
    state = LabState()
    config = run.trainer_config()
    task = build_task(config)
    state.apply(Ready(run.name, str(run.path), config, task, task.tokenizer, tuple(run.downsampled().events())))
    for event in run.events():
        state.apply(event)


def _fork(path: Path) -> None:
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.runs import open_run
    from tui_lab.core.training import checkpoint as ckpt

    run = runs.find(str(path))
    open_run.fork(str(path), run.read_latest(ckpt.load_progress).config).close()


def _resume(path: Path) -> None:
    from tui_lab.core.runs import open_run

    opened = open_run.resume(str(path), 10)
    try:
        for event in opened.run.record(opened.trainer.events()):
            if isinstance(event, ev.Failed):
                raise RunError(event.message)
    finally:
        opened.close()


ACTIONS: dict[str, Callable[[Path], None]] = {
    "show": _show,
    "generate": _generate,
    "replay": _replay,
    "fork": _fork,
    "resume": _resume,
}


def weights_of(path: Path) -> Any:
    """Return the last weights as bytes, or None when they are refused."""
    from tui_lab.core.inference.load_model import load_model
    from tui_lab.core.runs import folder as runs

    try:
        model, _ = load_model(runs.find(str(path)), "last")
    except CLEAR:
        return None
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def judge(sound: Path, scratch: Path, seed: str) -> dict[str, Any]:
    """Make one mutant, use it and describe what happened. Raises Failed for any error that is not a LabError."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(sound, scratch)
    expected = weights_of(sound)
    mutant = mutate(scratch, random.Random(seed))
    try:
        weights = weights_of(scratch)
        if mutant.checked and mutant.file != "tokenizer.json" and weights not in (None, expected):
            raise AssertionError("damaged weights were loaded without an error")
        errors = use(scratch)
    except BaseException as error:
        raise Failed(mutant) from error
    return {
        "file": Path(mutant.file).name,
        "what": mutant.what,
        "refused": sorted(name for name, message in errors.items() if message),
    }


class Failed(Exception):
    """A mutant caused an error that is not a LabError."""


def work(sound: Path, scratch: Path, seed: int, first: int, end: int) -> None:
    """Judge mutants first … end - 1 in a process with limited memory, with a line on stdout before and after each."""
    use(_copy(sound, scratch))  # Loads all libraries.
    size = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    signal.signal(signal.SIGALRM, _on_alarm)
    for number in range(first, end):
        _write(begins=number)
        signal.alarm(SECONDS)
        try:
            _write(number=number, **judge(sound, scratch, f"{seed}-{number}"))
        except Failed as failure:
            mutant: Mutant = failure.args[0]
            _write(number=number, file=mutant.file, what=mutant.what, failed=traceback.format_exc())
        signal.alarm(0)


def _copy(sound: Path, scratch: Path) -> Path:
    shutil.rmtree(scratch, ignore_errors=True)
    return Path(shutil.copytree(sound, scratch))


def _on_alarm(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"not done after {SECONDS} s")


def _write(**record: Any) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def run(folder: Path, times: int, seed: int, report: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """Judge all mutants in a worker process, which is replaced when a mutant ends it."""
    folders = {"TUI_LAB_RUNS": str(folder / "runs"), "TUI_LAB_CACHE": str(folder / "cache")}
    os.environ |= {**folders, "OMP_NUM_THREADS": "1"}
    create_run(folder / "sound")
    counts: Counter[str] = Counter()
    failures: list[dict[str, Any]] = []
    number = 0
    while number < times:
        command = [sys.executable, "-m", "tools.torture.mutate", "--work", str(folder), "--seed", str(seed)]
        command += ["--first", str(number), "--times", str(times)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
            assert worker.stdout is not None
            for line in worker.stdout:
                record = json.loads(line)
                if "begins" in record:
                    continue
                number = record["number"] + 1
                report(record)
                counts["mutants"] += 1
                counts["refused" if record.get("refused") else "failed" if "failed" in record else "loaded"] += 1
                if "failed" in record:
                    failures.append(record)
        if number < times:
            failures.append({"number": number, "failed": f"the process ended with {worker.returncode}"})
            counts["failed"] += 1
            number += 1
    return {"event": "summary", "seed": seed, **dict(counts), "lost": len(failures), "failures": failures}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work / "sound", arguments.work / "mutant", arguments.seed, arguments.first, arguments.times)
        return 0
    with tempfile.TemporaryDirectory() as name:
        summary = run(Path(name), arguments.times, arguments.seed, lambda record: _write(**record))
    _write(**summary)
    return 1 if summary["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
