"""A process that trains trials of a sweep until none is left or its standard input is closed.

Each trial has the losses that it has when it is run alone: threads are set before each, and every random number comes
from a seed of its config. User code can change more than that, so a trial with a `model.source` has its own process.

    python -m tui_lab.sweep.worker FOLDER

It prints the number of each trial as it starts it. The parent holds the other end of its standard input, which the
kernel closes when the parent dies; the worker then saves and stops.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import TextIO

from tui_lab.core.kernels.process_tuning import reduce_gc
from tui_lab.core.runs.sweep import study as studies
from tui_lab.core.runs.sweep.folder import Result, Sweep, read_sweep
from tui_lab.core.runs.sweep.study import Claim
from tui_lab.sweep.local import BAD_FOLDER
from tui_lab.sweep.stopper import Stopper
from tui_lab.util.child import take_stdout
from tui_lab.util.errors import RunError


def main(folder: str, numbers: TextIO) -> int:
    """Train trials; return the exit code. numbers: for that of each trial, before it starts.

    Raises RunError if the sweep's folder is damaged.
    """
    stopper = Stopper()
    _stop_with_parent(stopper)
    sweep = read_sweep(Path(folder))
    train = _of_config() if sweep.plan.script is None else _of_script
    with studies.opened(sweep) as study:
        while not stopper.requested and (claim := study.claim()) is not None:
            numbers.write(f"{claim.number}\n")
            numbers.flush()
            _train(sweep, claim, stopper, train)
            if sweep.plan.script is None and sweep.plan.tables(claim.number)["model"]["source"]:
                break
    return 0


TrainTrial = Callable[[Sweep, Claim, Stopper], Result | None]
"""Trains a trial; returns its result, or None if it was stopped before its end."""


def _of_config() -> TrainTrial:
    """Return what trains the trials of a config, in this process."""
    import torch  # A script's trials train in processes of their own.

    from tui_lab.sweep.trial import train_trial

    threads = torch.get_num_threads()

    def train(sweep: Sweep, claim: Claim, stopper: Stopper) -> Result | None:
        plan = sweep.plan
        number = claim.number
        torch.set_num_threads(threads)
        folder = sweep.folder(number)
        return train_trial(plan.name, lambda: plan.config(number), folder, plan.metric, stopper, claim.report)

    return train


def _of_script(sweep: Sweep, claim: Claim, stopper: Stopper) -> Result | None:
    from tui_lab.sweep.script_trial import ScriptTrial

    return ScriptTrial(sweep, claim.number, claim.report).train(stopper)


def _train(sweep: Sweep, claim: Claim, stopper: Stopper, train: TrainTrial) -> None:
    try:
        result = train(sweep, claim, stopper)
        if result is not None:
            claim.finish(result)
    finally:
        claim.release()


def _stop_with_parent(stopper: Stopper) -> None:
    """Stop at SIGTERM and when standard input ends. Ctrl-C and a closed terminal are left to the parent."""

    def handle(number: int, frame: FrameType | None) -> None:
        # In a thread: the handler may interrupt the thread that holds the stopper's lock.
        threading.Thread(target=stopper.request).start()

    signal.signal(signal.SIGTERM, handle)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)

    def wait_for_end_of_input() -> None:
        # Not sys.stdin: at exit this thread would hold its lock.
        while os.read(0, 1024):
            pass
        stopper.request()

    threading.Thread(target=wait_for_end_of_input, daemon=True).start()


if __name__ == "__main__":
    reduce_gc()
    try:
        sys.exit(main(sys.argv[1], take_stdout()))
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(BAD_FOLDER)
