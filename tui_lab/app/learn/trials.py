"""The trials of a stage: short runs, one after another, whose curves grow while they train."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.app.learn.measure import measurements
from tui_lab.app.panes.overlays import Overlay
from tui_lab.app.session.session import Session
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.facts import Measurements

if TYPE_CHECKING:
    from tui_lab.core.commands import CommandQueue
    from tui_lab.core.runs.open_run import OpenRun
    from tui_lab.data.dataset import ReportProgress


def session_of(name: str, config: Config, folder: Path) -> Session:
    """Return a session that trains a new run of `config` in `folder`."""

    return Session(lambda report, commands: open_trial(name, config, folder, report, commands))


def open_trial(
    name: str,
    config: Config,
    folder: Path,
    report: "ReportProgress | None" = None,
    commands: "CommandQueue | None" = None,
) -> "OpenRun":
    """Start a new run that saves no weights: of a trial only the curves are shown. Raises what `start` raises."""
    from tui_lab.core.runs import open_run
    from tui_lab.core.training.checkpointing import Checkpointing

    opened = open_run.start(name, config, folder, report, commands)
    opened.trainer.checkpointing = Checkpointing(None)
    return opened


@dataclass
class Trial:
    """state: what is known of its run."""

    label: str
    config: Config
    folder: Path
    state: LabState = field(default_factory=LabState)

    @property
    def overlay(self) -> Overlay:
        """Its curves, which grow while it trains."""
        return Overlay(self.folder, self.label, self.state.curves, self.state.progress)


class Trials:
    """Call `poll` at every tick. make: returns what trains a run; another one in tests."""

    def __init__(self, trials: Sequence[Trial], make: Callable[[str, Config, Path], Source] = session_of) -> None:
        self.trials = trials
        self._make = make
        self._next = 0
        self._source: Source | None = None
        self._stopped = False

    @property
    def done(self) -> bool:
        return self._next >= len(self.trials) and self._source is None

    @property
    def running(self) -> Trial | None:
        """The trial that trains now."""
        return self.trials[self._next - 1] if self._source is not None and self._next else None

    @property
    def started(self) -> list[Trial]:
        """The trials that have a curve."""
        return [trial for trial in self.trials[: self._next] if trial.state.curves["loss"].points]

    @property
    def measured(self) -> list[Measurements]:
        return [measurements(trial.state) for trial in self.trials]

    @property
    def error(self) -> str:
        """Why a trial failed; empty if none did."""
        return next((trial.state.ending for trial in self.trials if trial.state.phase == "failed"), "")

    def poll(self) -> bool:
        """Take the messages of the trial that trains, or start the next one; return whether anything changed."""
        if self._source is None:
            return self._start_next()
        trial = self.trials[self._next - 1]
        messages = self._source.drain()
        for message in messages:
            trial.state.apply(message)
        if trial.state.over:
            self._source.close()
            if self._source.join(0):  # Only one run trains at a time.
                self._source = None
                return True
        return bool(messages)

    def _start_next(self) -> bool:
        if self._stopped or self._next >= len(self.trials):
            return False
        trial = self.trials[self._next]
        self._source = self._make(trial.label, trial.config, trial.folder)
        self._source.start()
        self._next += 1
        return True

    def stop(self) -> None:
        """Stop the trial that trains, and start no further one."""
        self._stopped = True
        if self._source is not None:
            self._source.close()
