"""Which process trains which trial: an Optuna study in the sweep's folder, and a file lock for each trial.

A trial belongs to the process that holds its lock; the system releases the lock when the process ends. A trial that is
running according to the study, but whose lock is free, was interrupted: it is handed out again, before waiting ones. A
trial has ended once its result is written. The study is updated after that, before the lock is released, so that no
trial is trained twice. One process at a time reads and writes the study, under its own lock: SQLite alone would
let two processes read the same waiting trial before either writes.
"""

import math
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import QueuePool

from tui_lab.core.runs.sweep import search_space
from tui_lab.core.runs.sweep.folder import STUDY, Result, Sweep, trial_lock
from tui_lab.util.errors import RunError

NAME = "sweep"
MEDIAN_OF = 3
"""Trials that must have ended before MedianPruner stops one."""
BUSY = 60.0
"""Seconds to wait for another process that writes the study."""
PROBE = 0.1
"""Seconds to wait for the lock of a running trial. Listing a sweep holds it for less."""
_STATES = {"pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass(frozen=True)
class Claim:
    """A trial that this process trains, until `release`."""

    study: "Study"
    number: int
    trial: Trial
    lock: FileLock

    def report(self, step: int, value: float) -> bool:
        """Report the metric after `step` steps. Returns whether the pruner wants to stop the trial."""
        with self.study.guard:
            self.trial.report(value, step)
            return self.study.sweep.plan.prune and self.trial.should_prune()

    def finish(self, result: Result) -> None:
        """Record that the trial has ended."""
        self.study.sweep.write_result(self.number, result)
        self.study.tell(self.number, result)

    def release(self) -> None:
        """Release the trial. Without a result, the next `claim` may get it."""
        self.lock.release()


class Study:
    """The study of a sweep, as `opened` returns it."""

    def __init__(self, sweep: Sweep, study: optuna.Study, guard: FileLock) -> None:
        self.sweep = sweep
        self._study = study
        self.guard = guard
        """The lock of the study, held while it is read or written."""

    def claim(self) -> Claim | None:
        """Return a trial to train: an interrupted one, or the next waiting one; None where there is none now.

        Raises RunError when a result cannot be read.
        """
        with self.guard:
            for frozen in self._trials(TrialState.RUNNING):
                if claim := self._take(frozen.number, Trial(self._study, frozen._trial_id), timeout=PROBE):
                    return claim
            while self._trials(TrialState.WAITING):
                trial = self._study.ask()
                if claim := self._take(trial.number, trial, timeout=BUSY):
                    return claim
        return None

    def _take(self, number: int, trial: Trial, timeout: float) -> Claim | None:
        lock = self.sweep.lock(trial_lock(number))
        try:
            lock.acquire(timeout=timeout, poll_interval=PROBE / 5)
        except Timeout:
            return None
        with ExitStack() as unless_claimed:
            unless_claimed.callback(lock.release)
            # Its last owner may have finished it meanwhile, or died before updating the study.
            if result := self.sweep.result(number):
                self.tell(number, result)
                return None
            unless_claimed.pop_all()
        return Claim(self, number, trial, lock)

    def tell(self, number: int, result: Result) -> None:
        """Record the end of a trial in the study, unless it is recorded already."""
        state = _STATES.get(result.state)
        value = result.value
        if state is None and (value is None or not math.isfinite(value)):
            state = TrialState.FAIL
        with self.guard:
            self._study.tell(number, values=value if state is None else None, state=state, skip_if_finished=True)

    def give_up(self, number: int, message: str) -> None:
        """Mark a trial that no process trains as failed, unless it has ended."""
        with self.guard, self.sweep.lock(trial_lock(number)).acquire(timeout=BUSY):
            if self.sweep.result(number) is None:
                self.sweep.write_result(number, Result("failed", message=message))
            self.tell(number, self.sweep.result(number) or Result("failed"))

    def fill(self) -> None:
        """Add the trials of the sweep that the study does not have."""
        plan = self.sweep.plan
        spaces = search_space.distributions(plan.axes)
        for number in range(len(self._trials()), len(plan.points)):
            params = {axis.key: axis.stored(plan.points[number][axis.key]) for axis in plan.axes}
            self._study.add_trial(optuna.create_trial(state=TrialState.WAITING, params=params, distributions=spaces))

    def _trials(self, *states: TrialState) -> list[FrozenTrial]:
        return self._study.get_trials(deepcopy=False, states=states or None)


def _storage(path: Path) -> optuna.storages.RDBStorage:
    """SQLite in `path`. Not given as a URL, since a path may have any characters."""

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY, check_same_thread=False)
        # One fsync for many commits. A power cut may undo the last ones; the results restore them.
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    return optuna.storages.RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": QueuePool})


@contextmanager
def opened(sweep: Sweep) -> Iterator[Study]:
    """The study of a sweep, created if necessary. Raises RunError when it is damaged."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path = sweep.path / STUDY
    guard = sweep.lock("study")
    try:
        with guard:
            storage = _storage(path)
            study = optuna.create_study(
                storage=storage,
                study_name=NAME,
                load_if_exists=True,
                direction="maximize" if sweep.plan.rising else "minimize",
                sampler=optuna.samplers.RandomSampler(seed=0),
                pruner=optuna.pruners.MedianPruner(n_startup_trials=MEDIAN_OF),
            )
            opened_study = Study(sweep, study, guard)
            opened_study.fill()
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError, sqlite3.Error) as error:
        raise RunError.of("damaged", f"not readable as a study: {error}", key=str(path)) from error
    try:
        yield opened_study
    finally:
        with guard:
            storage.remove_session()
            storage.engine.dispose()
