"""What the lab of a lesson shows when the lesson is opened: its current run, or the next one, paused before step 1."""

import math
import queue
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tui_lab.app.opening import open_pick, source_of
from tui_lab.app.resuming import why_not_resumable
from tui_lab.app.screens.home import Pick
from tui_lab.app.session.session import Session
from tui_lab.app.session.source import Playback, Role, Source
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.progress import Progress
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import in_use
from tui_lab.util.errors import RunError

if TYPE_CHECKING:
    from tui_lab.app.session.messages import SessionMessage
    from tui_lab.core.commands import CommandQueue
    from tui_lab.core.runs.open_run import OpenRun
    from tui_lab.data.dataset import ReportProgress


class NoRun:
    """The source of a lab without a run: the stage needs none yet."""

    role: Role = "training"
    playback: Playback | None = None
    pid: int | None = None

    def __init__(self) -> None:
        self._commands: cmd.CommandQueue = queue.SimpleQueue()

    def status_note(self) -> str:
        return ""

    def start(self) -> None:
        """Nothing is to be started."""

    def send(self, command: cmd.Command) -> None:
        """There is nothing to command."""

    def drain(self) -> "list[SessionMessage]":
        return []

    def close(self) -> None:
        """Nothing is open."""

    def join(self, seconds: float | None = None) -> bool:
        return True


@dataclass(frozen=True)
class LessonSource:
    """prepared: the id of the stage whose run is open in `folder`, paused before its first step; empty if none is."""

    source: Source
    prepared: str = ""
    folder: Path | None = None


def lesson_source(progress: Progress, clock: Callable[[], float]) -> LessonSource:
    """Return what to show at the stage where the student is. Raises RunError."""
    stage_id = progress.stage.id
    run = progress.current_run(stage_id)
    if run is not None:
        return LessonSource(_source_of_run(run, clock, is_unfinished=_is_unfinished(progress, run)))
    for stage in progress.lesson.stages[progress.index :]:
        config = progress.lesson.configs[stage.id].start
        if progress.run_of(stage.id) is not None:
            break  # The student looks back to before the first run.
        if config is not None:
            folder = progress.new_run_folder(stage.id)
            return LessonSource(PreparedSession(stage.id, config, folder), stage.id, folder)
    return LessonSource(NoRun())


def _is_unfinished(progress: Progress, run: Run) -> bool:
    """Return whether the stage where the student is has started the run, and still waits for it."""
    stage_run = progress.run_of(progress.stage.id)
    return stage_run is not None and stage_run.path == run.path and not progress.of(progress.stage.id).complete


def _source_of_run(run: Run, clock: Callable[[], float], *, is_unfinished: bool) -> Source:
    if in_use(run.path) is None and is_unfinished and _is_resumable(run):
        pick = Pick("resume", str(run.path))
        return Session(lambda report, commands: open_pick(pick, report, commands))
    source = source_of(Pick("replay", str(run.path)), clock)
    if source.playback is not None:
        source.speed = math.inf  # type: ignore[attr-defined]
    return source


def _is_resumable(run: Run) -> bool:
    try:
        return isinstance(run.config(), Config) and not why_not_resumable(run.path)
    except RunError:
        return False


class PreparedSession(Session):
    """Opens a run paused before its first step, and measures nothing until `release`: a question may ask for it."""

    def __init__(self, name: str, config: Config, folder: Path) -> None:
        def open(report: "ReportProgress", commands: "CommandQueue") -> "OpenRun":
            from tui_lab.core.runs import open_run

            return open_run.start(name, config, folder, report, commands)

        super().__init__(open, paused=True)
        self._held: list[cmd.Command] | None = []
        """The commands that inspect the model; None once they are sent."""

    def send(self, command: cmd.Command) -> None:
        if self._held is not None and isinstance(command, cmd.Inspect):
            self._held.append(command)
        else:
            super().send(command)

    def release(self) -> None:
        """Send what was held back."""
        held = self._held or []
        self._held = None
        for command in held:
            super().send(command)
