"""Damage a run folder in a thousand ways and use it: a clear error or a correct load, in bounded memory.

    python -m tools.torture.mutate --times 1000 --seed 0

A JSON line a mutant on stdout, the summary last; exit code 1 where anything but an error in words came of it.
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
"""Bytes that a worker may take beyond what it needs for a sound run."""
SECONDS = 60
"""That one mutant may take, which is a hundred times what it needs: the end of one that hangs."""
CLEAR = (ConfigError, RunError, DataError)


def made(path: Path) -> Path:
    """A small run with everything a run can have: live changes, evaluations, best weights."""
    from tests.core.tiny import tiny
    from tui_lab.core import commands as cmd
    from tui_lab.core.runs import open_run as opening

    opened = opening.begin("sound", tiny("train.eval_every=2", "train.checkpoint_every=4"), path)
    opened.trainer.commands.put(cmd.Set("optim.lr", 0.02))
    for event in opened.run.record(opened.trainer.events()):
        opened.seen.update(event)
    opened.run.write_summary(opened.seen.summary(str(path)))
    opened.close()
    return path


def use(path: Path) -> dict[str, str]:
    """Do with a run all that one does with runs: "" or an error in words for each. Other errors are raised."""
    return {name: _told(action, path) for name, action in ACTIONS.items()}


def _told(action: Callable[[Path], None], path: Path) -> str:
    try:
        action(path)
    except CLEAR as error:
        return str(error)
    return ""


def _look(path: Path) -> None:
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.runs.export import summary_of
    from tui_lab.runs.summary_text import summary_text

    run = runs.find(str(path))
    summary_text(summary_of(run))
    run.config()


def _speak(path: Path) -> None:
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
    state, config = LabState(), run.config()
    state.apply(Ready(run.name, str(run.path), config, build_task(config), tuple(run.downsampled().events())))
    for event in run.events():
        state.apply(event)


def _fork(path: Path) -> None:
    from tui_lab.core.runs import folder as runs
    from tui_lab.core.runs import open_run as opening
    from tui_lab.core.training import checkpoint as ckpt

    run = runs.find(str(path))
    opening.fork(str(path), run.read_latest(ckpt.load_progress).config).close()


def _go_on(path: Path) -> None:
    from tui_lab.core.runs import open_run as opening

    opened = opening.reopen(str(path), 10)
    try:
        for event in opened.run.record(opened.trainer.events()):
            if isinstance(event, ev.Failed):
                raise RunError(event.message)
    finally:
        opened.close()


ACTIONS: dict[str, Callable[[Path], None]] = {
    "look": _look, "speak": _speak, "replay": _replay, "fork": _fork, "go on": _go_on,
}  # fmt: skip


def weights_of(path: Path) -> Any:
    """The last weights as bytes; None where they are refused."""
    from tui_lab.core.inference.load_model import load_model
    from tui_lab.core.runs import folder as runs

    try:
        model, _ = load_model(runs.find(str(path)), "last")
    except CLEAR:
        return None
    return {name: tensor.numpy().tobytes() for name, tensor in model.state_dict().items()}


def judge(sound: Path, scratch: Path, seed: str) -> dict[str, Any]:
    """One mutant, and what came of it. Raises whatever is not an error in words."""
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(sound, scratch)
    expected = weights_of(sound)
    mutant = mutate(scratch, random.Random(seed))
    try:
        found = weights_of(scratch)
        if mutant.checked and mutant.file != "tokenizer.json" and found not in (None, expected):
            raise AssertionError("other weights were taken without a word")
        told = use(scratch)
    except BaseException as error:
        raise Hurt(mutant) from error
    return {
        "file": Path(mutant.file).name,
        "what": mutant.what,
        "refused": sorted(name for name, said in told.items() if said),
    }


class Hurt(Exception):
    """Something other than an error in words came of a mutant."""


def work(sound: Path, scratch: Path, seed: int, first: int, end: int) -> None:
    """Mutants first … end - 1, in a process whose memory is bounded; a line on stdout before and after each."""
    use(_copy(sound, scratch))  # All libraries are loaded.
    size = int(Path("/proc/self/statm").read_text("utf-8").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    signal.signal(signal.SIGALRM, _too_long)
    for number in range(first, end):
        _say(begins=number)
        signal.alarm(SECONDS)
        try:
            _say(number=number, **judge(sound, scratch, f"{seed}-{number}"))
        except Hurt as hurt:
            mutant: Mutant = hurt.args[0]
            _say(number=number, file=mutant.file, what=mutant.what, hurt=traceback.format_exc())
        signal.alarm(0)


def _copy(sound: Path, scratch: Path) -> Path:
    shutil.rmtree(scratch, ignore_errors=True)
    return Path(shutil.copytree(sound, scratch))


def _too_long(number: int, frame: FrameType | None) -> None:
    raise AssertionError(f"not done after {SECONDS} s")


def _say(**record: Any) -> None:
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


def run(folder: Path, times: int, seed: int, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """All mutants, in as many worker processes as are ended by one."""
    folders = {"TUI_LAB_RUNS": str(folder / "runs"), "TUI_LAB_CACHE": str(folder / "cache")}
    os.environ |= {**folders, "OMP_NUM_THREADS": "1"}
    sound = made(folder / "sound")
    counts: Counter[str] = Counter()
    hurt: list[dict[str, Any]] = []
    number = 0
    while number < times:
        command = [sys.executable, "-m", "tools.torture.mutate", "--work", str(folder), "--seed", str(seed)]
        with subprocess.Popen([*command, "--first", str(number), "--times", str(times)], stdout=subprocess.PIPE,
                              text=True) as worker:  # fmt: skip
            assert worker.stdout is not None
            for line in worker.stdout:
                record = json.loads(line)
                if "begins" in record:
                    continue
                number = record["number"] + 1
                tell(record)
                counts["mutants"] += 1
                counts["refused" if record.get("refused") else "hurt" if "hurt" in record else "loaded"] += 1
                if "hurt" in record:
                    hurt.append(record)
        if number < times:
            hurt.append({"number": number, "hurt": f"the process ended by {worker.returncode}"})
            counts["hurt"] += 1
            number += 1
    assert sound.is_dir()
    return {"event": "summary", "seed": seed, **dict(counts), "lost": len(hurt), "failures": hurt}


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
        found = run(Path(name), arguments.times, arguments.seed, lambda record: _say(**record))
    _say(**found)
    return 1 if found["lost"] else 0


if __name__ == "__main__":
    sys.exit(main())
