"""A process that trains trials of a sweep until none is left, or until its standard input is closed.

    python -m tui_lab.sweep.worker FOLDER

prints the number of each trial as it begins. Whoever started it holds the other end of its standard input: when that
process dies, however it dies, this one saves and stops.
"""

import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType

from tui_lab.core.runs.sweep import study as studies
from tui_lab.core.runs.sweep.folder import Sweep, read
from tui_lab.core.runs.sweep.study import Claim
from tui_lab.sweep.local import BAD_FOLDER
from tui_lab.sweep.trial import Stopper, train_trial
from tui_lab.util.errors import RunError


def main(folder: str) -> int:
    stopper = Stopper()
    _stop_when_alone(stopper)
    sweep = read(Path(folder))
    tell, sys.stdout = sys.stdout, sys.stderr  # What a model of one's own prints is no product.
    with studies.opened(sweep) as study:
        while not stopper.asked and (claim := study.claim()) is not None:
            tell.write(f"{claim.number}\n")
            tell.flush()
            _train(sweep, claim, stopper)
    return 0


def _train(sweep: Sweep, claim: Claim, stopper: Stopper) -> None:
    plan, number = sweep.plan, claim.number
    try:
        result = train_trial(
            plan.name, lambda: plan.config(number), sweep.folder(number), plan.metric, stopper, claim.report
        )
        if result is not None:
            claim.finish(result)
    finally:
        claim.release()


def _stop_when_alone(stopper: Stopper) -> None:
    """Ask for the end at SIGTERM and when standard input ends. Ctrl-C is for the process that started this one."""

    def asked(number: int, frame: FrameType | None) -> None:
        # Not here: a handler may interrupt the thread that holds the stopper's lock.
        threading.Thread(target=stopper.ask).start()

    signal.signal(signal.SIGTERM, asked)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        # Not sys.stdin: at the program's end its lock would be held by this thread.
        while os.read(0, 1024):
            pass
        stopper.ask()

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1]))
    except RunError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(BAD_FOLDER)
