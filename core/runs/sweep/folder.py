"""A sweep's folder: sweep.json, results/NNNN.json and trials/NNNN-…, each trial an ordinary run folder.

The points of a sweep are fixed before its first trial starts and are listed in sweep.json, so that a sweep can be
stopped and resumed, and other processes can join it. Reading a sweep needs neither Optuna nor torch; which process
trains which trial is decided in tui_lab.core.runs.sweep.study.
"""

import contextlib
import copy
import math
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.core.runs.folder import SWEEP, Run
from tui_lab.core.runs.summary import Summary
from tui_lab.core.runs.sweep.script_trials import ScriptTrials
from tui_lab.core.runs.sweep.search_space import Axis, Values, axis, label, script_axis
from tui_lab.util import files
from tui_lab.util.errors import RunError, first_line, nearest
from tui_lab.util.strict_json import dumps

STUDY = "study.db"
State = Literal["waiting", "running", "interrupted", "done", "pruned", "failed"]
ENDED = ("done", "pruned", "failed")
RISING = ("exact_match", "tokens_per_s")
"""Metrics where higher is better."""
TO_TARGET = ("tokens", "train_seconds")
"""Metrics of a trial that has reached its `train.target_loss`."""
TIMES = ("train_seconds", "tokens_per_s")
"""Metrics that trials at the same time would disturb."""
LOSS = "loss"
"""The metric of a script: its validation loss, or its train loss if it makes no evaluation."""
SLUG = 60
"""Characters of a trial's folder name for its values, at most."""


@dataclass(frozen=True)
class SweepCheck:
    """What a sweep must show: with `key` at `worst`, the metric is not better than at `best`."""

    key: str
    best: Any
    worst: Any
    why: str = ""


@dataclass(frozen=True)
class Plan:
    """What to sweep. base: the tables of the config; over: the axes as in sweep.json; points: one per trial.

    script: the user's script that is swept instead of a config, whose tables are empty then.
    """

    name: str
    base: dict[str, Any]
    over: dict[str, Any]
    points: tuple[Values, ...]
    metric: str
    prune: bool = False
    check: SweepCheck | None = None
    seeds: int = 1
    drawn: int = 0
    """Points drawn by --random; 0: a grid."""
    engine: str = "local"
    jobs: int = 1
    jobs_reason: str = ""
    """Why there are as many jobs; empty: they were given."""
    command: str = ""
    script: ScriptTrials | None = None

    @property
    def axes(self) -> list[Axis]:
        axis_of = axis if self.script is None else script_axis
        return [axis_of(key, spec) for key, spec in self.over.items()]

    @property
    def rising(self) -> bool:
        """Whether a higher metric is better."""
        return self.metric in RISING

    def tables(self, number: int) -> dict[str, Any]:
        """Return the config of a trial as tables, which may contradict each other."""
        tables = copy.deepcopy(self.base)
        for key, value in self.points[number].items():
            settings.put(tables, key, value)
        return tables

    def config(self, number: int) -> Config:
        """Return the config of a trial. Raises ConfigError where its values contradict each other."""
        return settings.build(self.tables(number))

    def threads(self, number: int) -> int:
        """Return the CPU threads of a trial; 0: those that its script sets."""
        return self.script.threads if self.script else int(self.tables(number)["train"]["threads"])

    def label(self, number: int) -> str:
        return label(self.points[number])

    def same_as(self, other: "Plan") -> bool:
        """Return whether both have the same trials."""
        mine = (self.base, self.points, self.metric, self.script)
        return mine == (other.base, other.points, other.metric, other.script)


@dataclass(frozen=True)
class Result:
    """How a trial ended. value: the metric, None where there is none; message: what went wrong."""

    state: State
    value: float | None = None
    message: str = ""
    summary: Summary | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields, in which numbers may be NaN or infinite."""
        return {
            "state": self.state,
            "value": self.value,
            "message": self.message,
            "summary": self.summary.to_json() if self.summary else None,
        }


_PLAN = TypeAdapter(Plan)
_RESULT = TypeAdapter(Result)


@dataclass(frozen=True)
class TrialRow:
    """The present state of one trial. run: the path of its run folder, which may not exist yet."""

    number: int
    values: Values
    state: State
    run: Path
    result: Result | None = None

    @property
    def value(self) -> float | None:
        return self.result.value if self.result else None

    @property
    def summary(self) -> Summary | None:
        """The summary of the trial's run; None while it is not known."""
        return self.result.summary if self.result else None


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder, which exists, and its plan."""

    path: Path
    plan: Plan

    @property
    def name(self) -> str:
        return self.path.name

    def folder(self, number: int) -> Path:
        """Return the run folder of a trial, which may not exist yet."""
        slug = re.sub(r"[^A-Za-z0-9_.+-]+", "-", self.plan.label(number)).strip("-.")[:SLUG]
        return self.path / "trials" / f"{number:04d}-{slug}".rstrip("-.")

    def lock(self, name: str) -> FileLock:
        """Return the lock of a trial, held by the process that trains it, or of the study. It ends with its process."""
        folder = self.path / ".locks"
        folder.mkdir(exist_ok=True)
        return FileLock(folder / name, thread_local=False)

    def result(self, number: int) -> Result | None:
        """Return how a trial ended; None where it has not ended. Raises RunError when its file is damaged."""
        path = self._result(number)
        try:
            return _RESULT.validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise RunError.of("damaged", f"not the result of a trial: {first_line(error)}", key=str(path)) from error
        except OSError as error:
            raise RunError.of("unreadable", str(error.strerror), key=str(path)) from error

    def write_result(self, number: int, result: Result) -> None:
        path = self._result(number)
        path.parent.mkdir(exist_ok=True)
        files.write_text(path, dumps(result.to_json(), indent=1) + "\n")

    def rows(self) -> list[TrialRow]:
        """Return the present state of every trial. Raises RunError when a file is damaged."""
        return [self.row(number) for number in range(len(self.plan.points))]

    def row(self, number: int) -> TrialRow:
        result = self.result(number)
        folder = self.folder(number)
        state: State = result.state if result else self._unfinished(number, folder)
        return TrialRow(number, self.plan.points[number], state, folder, result)

    def _unfinished(self, number: int, folder: Path) -> State:
        if self.held(number):
            return "running"
        return "interrupted" if folder.exists() else "waiting"

    def held(self, number: int) -> bool:
        """Return whether a process has the lock of a trial."""
        if not (self.path / ".locks" / trial_lock(number)).exists():
            return False
        try:
            with self.lock(trial_lock(number)).acquire(blocking=False):
                return False
        except Timeout:
            return True
        except OSError:
            # A read-only folder is not in use.
            return False

    def _result(self, number: int) -> Path:
        return self.path / "results" / f"{number:04d}.json"


class Watch:
    """The rows of a sweep, for repeated reading: trials that have ended are read once."""

    def __init__(self, sweep: Sweep) -> None:
        self._sweep = sweep
        self._rows = sweep.rows()

    def rows(self) -> list[TrialRow]:
        """Raises RunError when a file is damaged."""
        self._rows = [row if row.state in ENDED else self._sweep.row(row.number) for row in self._rows]
        return self._rows


def trial_lock(number: int) -> str:
    return f"{number:04d}"


def create_sweep(plan: Plan, out: Path | None) -> Sweep:
    """Create the folder of a sweep: `out`, or one named after it and the time. A folder of the same trials is joined.

    Raises RunError where there is something else.
    """
    path = out if out is not None else runs.free_path(runs.runs_folder(), Path(plan.name).stem)
    if path.exists() and not path.is_dir():
        raise RunError.of("exists", "is a file", key="--out", value=str(path))
    try:
        path.mkdir(parents=True, exist_ok=True)
        files.sweep_temporaries(path)
        taken = not {entry.name for entry in path.iterdir()} <= {".locks"} and not (path / SWEEP).exists()
        if taken:
            raise RunError.of("exists", "already exists and is not a sweep", key="--out", value=str(path))
        sweep = Sweep(path, plan)
        # Of two processes that start the same sweep at once, the second reads the plan of the first.
        with sweep.lock("study"):
            if not (path / SWEEP).exists():
                (path / "trials").mkdir(exist_ok=True)
                files.write_text(path / SWEEP, dumps(asdict(plan), indent=1) + "\n")
                return sweep
    except OSError as error:
        raise RunError.of("unwritable", f"cannot create a sweep here: {error.strerror}", key=str(path)) from error
    existing = read_sweep(path)
    if not existing.plan.same_as(plan):
        raise RunError.of(
            "exists", f"is a different sweep; to continue it, use --resume {path}", key="--out", value=str(path)
        )
    return existing


def read_sweep(path: Path) -> Sweep:
    """Return the sweep in a folder. Raises RunError where there is none or it is damaged."""
    try:
        return Sweep(path, _PLAN.validate_json((path / SWEEP).read_bytes()))
    except FileNotFoundError as error:
        raise RunError.of("not_found", f"not a sweep: it has no {SWEEP}", key=str(path)) from error
    except ValidationError as error:
        raise RunError.of("damaged", f"not a sweep: {first_line(error)}", key=str(path / SWEEP)) from error
    except OSError as error:
        raise RunError.of("unreadable", str(error.strerror), key=str(path / SWEEP)) from error


def find_sweep(name: str) -> Sweep:
    """Return the sweep of a path, or of a name in the runs folder. Raises RunError."""
    for path in (Path(name), runs.runs_folder() / name):
        if (path / SWEEP).is_file():
            return read_sweep(path)
    raise RunError.of(
        "unknown_name",
        f"not a sweep: no {SWEEP} there or in {runs.runs_folder() / name}",
        value=name,
        suggestion=nearest(name, [sweep.name for sweep in list_sweeps()]),
    )


def list_sweeps() -> list[Sweep]:
    """Return all sweeps of the runs folder, the oldest first, without damaged ones."""
    sweeps = []
    for path in sorted(runs.runs_folder().glob(f"*/{SWEEP}"), key=lambda path: (path.stat().st_mtime_ns, path)):
        with contextlib.suppress(RunError):
            sweeps.append(read_sweep(path.parent))
    return sweeps


def ranked(rows: Sequence[TrialRow], *, rising: bool) -> list[TrialRow]:
    """Return the rows, the best metric first; then pruned, failed and unfinished trials, each by number."""
    order = ("done", "pruned", "failed", "running", "interrupted", "waiting")

    def key(row: TrialRow) -> tuple[int, float, int]:
        value = row.value if row.state == "done" and row.value is not None else math.nan
        value = math.inf if not math.isfinite(value) else -value if rising else value
        return (order.index(row.state), value, row.number)

    return sorted(rows, key=key)


def run_of(row: TrialRow) -> Run | None:
    """Return the trial's run; None where it never started or was removed."""
    return Run(row.run) if (row.run / run_files.CONFIG).is_file() else None
