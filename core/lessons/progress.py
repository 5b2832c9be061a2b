"""How far a student has come in a lesson, kept in progress.json in the folder of the lesson's runs."""

import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from tui_lab.core.lessons.load import Lesson
from tui_lab.core.lessons.schema import Stage
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.core.runs.folder import Run
from tui_lab.util import files
from tui_lab.util.errors import RunError

LESSONS, PROGRESS = "lessons", "progress.json"
FINISHED = "finished"
LARGEST_PROGRESS = 2**20
"""Bytes of a progress.json."""


class StageProgress(BaseModel):
    """What happened at a stage. choice: of a question, from 1; guess: the number given; right: whether it was right.

    run and trials: names of runs in the lesson's folder, empty where the stage started none.
    """

    model_config = ConfigDict(validate_assignment=True)

    complete: bool = False
    choice: int | None = None
    guess: float | None = None
    right: bool | None = None
    run: str = ""
    trials: list[str] = []
    finding: str = ""
    """The first finding of the doctor."""
    report: dict[str, Any] = {}
    """Of the doctor, as `Report.to_json` returns it."""
    sentence: str = ""
    """What the student typed to see it split."""
    failed_facts: list[str] = []
    """A sentence for each fact that did not hold."""

    @property
    def is_answered(self) -> bool:
        """Whether the question of the stage has an answer."""
        return self.choice is not None or self.guess is not None


class ProgressFile(BaseModel):
    """The content of a progress.json. stage: the id of the stage that the student is at; empty before the first."""

    format: Literal[1] = 1
    stage: str = ""
    finished: bool = False
    stages: dict[str, StageProgress] = {}


@dataclass
class Progress:
    """The progress in one lesson. Call `save` after a change."""

    lesson: Lesson
    folder: Path
    """Of the lesson's runs; made by the first `save`."""
    content: ProgressFile = field(default_factory=ProgressFile)

    @property
    def is_started(self) -> bool:
        return bool(self.content.stage)

    @property
    def is_finished(self) -> bool:
        """Whether the student has been at the end once."""
        return self.content.finished

    @property
    def stage(self) -> Stage:
        """The stage that the student is at."""
        return self.lesson.stages[self.index]

    @property
    def index(self) -> int:
        """The position of the stage, from 0."""
        try:
            return self.lesson.index(self.content.stage)
        except KeyError:
            return 0

    @property
    def place(self) -> str:
        """Where the student is: "finished", "stage 3 of 7", or empty if the lesson was never started.

        A finished lesson that is looked at again counts as finished as long as all of its stages are complete.
        """
        n_stages = len(self.lesson.stages)
        is_at_end = not self.is_started or self.index == n_stages - 1 or self.n_complete == n_stages
        if self.is_finished and is_at_end:
            return FINISHED
        return f"stage {self.index + 1} of {n_stages}" if self.is_started else ""

    @property
    def saved_at(self) -> float:
        """When the progress was last saved, in seconds of the clock of the file system; 0 if it never was."""
        try:
            return (self.folder / PROGRESS).stat().st_mtime
        except OSError:
            return 0.0

    @property
    def n_complete(self) -> int:
        """How many stages are complete."""
        return sum(self.of(stage.id).complete for stage in self.lesson.stages)

    def of(self, stage_id: str) -> StageProgress:
        """Return what happened at a stage, to read and to change."""
        return self.content.stages.setdefault(stage_id, StageProgress())

    def go_to(self, stage_id: str) -> None:
        """Move to a stage. Raises KeyError if the lesson has no such stage."""
        self.lesson.index(stage_id)
        self.content.stage = stage_id

    def finish(self) -> None:
        """The student is through; the lesson can be taken again."""
        self.content.finished = True

    def begin_again(self) -> None:
        """Forget answers and runs; the runs stay on disk, and the lesson counts as finished if it was."""
        self.content = ProgressFile(finished=self.content.finished)

    def save(self) -> None:
        """Write progress.json. Raises RunError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            files.write_text(self.folder / PROGRESS, self.content.model_dump_json(indent=1) + "\n")
        except OSError as error:
            message = f"cannot keep your progress: {files.advice(error)}"
            raise RunError.of("unwritable", message, key=str(self.folder)) from error

    def new_run_folder(self, stage_id: str, trial: int | None = None) -> Path:
        """Make an empty folder for a run of a stage, or of its trial with a number from 1. Raises RunError."""
        return runs.free_path(self.folder, stage_id if trial is None else f"{stage_id}-trial-{trial}")

    def run_of(self, stage_id: str) -> Run | None:
        """Return the run that a stage started, unless it has been removed."""
        return self._run(self.of(stage_id).run)

    def trials_of(self, stage_id: str) -> list[Run]:
        """Return the runs of a stage's trials that have not been removed."""
        return [run for run in map(self._run, self.of(stage_id).trials) if run is not None]

    def current_run(self, stage_id: str) -> Run | None:
        """Return the lesson's current run at a stage: that of this stage, or of the last one before it with a run."""
        for stage in reversed(self.lesson.stages[: self.lesson.index(stage_id) + 1]):
            if (run := self.run_of(stage.id)) is not None:
                return run
        return None

    def run_before(self, stage_id: str) -> Run | None:
        """Return the lesson's current run before a stage."""
        i = self.lesson.index(stage_id)
        return self.current_run(self.lesson.stages[i - 1].id) if i else None

    def command(self, stage: Stage) -> str:
        """Return the command of a stage's terminal, which works in any folder; empty where the stage has none."""
        if stage.terminal is None:
            return ""
        return stage.terminal.command.replace("{folder}", shlex.quote(str(self.folder.absolute())))

    def short_command(self, stage: Stage) -> str:
        """Return the same command with a relative path, for the working directory, if the folder is below it."""
        folder = self.folder.absolute()
        if stage.terminal is None or not folder.is_relative_to(Path.cwd()):
            return self.command(stage)
        return stage.terminal.command.replace("{folder}", shlex.quote(str(folder.relative_to(Path.cwd()))))

    def copy_files(self, stage: Stage) -> None:
        """Copy the files of the stage's terminal into the lesson's folder, except those there. Raises RunError."""
        for name in stage.terminal.copies if stage.terminal else ():
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                if not (self.folder / name).exists():
                    shutil.copyfile(self.lesson.folder / name, self.folder / name)
            except OSError as error:
                raise RunError.of("unwritable", files.advice(error), key=str(self.folder / name)) from error

    def _run(self, name: str) -> Run | None:
        # A script's run is elsewhere, and its path is absolute.
        run = Run(self.folder / name)
        return run if name and (run.path / run_files.CONFIG).is_file() else None


def index_to_continue(all_progress: Sequence[Progress]) -> int:
    """Return the position of the lesson to go on with.

    It is the one worked on last or, once that is finished, the next one that is not; 0 if all are finished.
    """
    if not all_progress:
        return 0
    is_open = [each.place != FINISHED for each in all_progress]
    latest = max(range(len(all_progress)), key=lambda i: (all_progress[i].saved_at, -i))
    later_first = [*range(latest, len(is_open)), *range(latest)]
    return next((i for i in later_first if is_open[i]), 0)


def lessons_folder() -> Path:
    """Return the folder of all lessons' runs and progress, in the runs folder."""
    return runs.runs_folder() / LESSONS


def load_progress(lesson: Lesson) -> Progress:
    """Return the progress in a lesson; new where there is none.

    A damaged progress.json is renamed to progress.damaged.json, so that the next `save` does not destroy it.
    """
    folder = lessons_folder() / lesson.name
    path = folder / PROGRESS
    try:
        content = ProgressFile.model_validate_json(files.read_text(path, LARGEST_PROGRESS))
    except FileNotFoundError:
        content = ProgressFile()
    except (OSError, ValueError, ValidationError):
        content = ProgressFile()
        if path.is_file():
            path.replace(path.with_name("progress.damaged.json"))
    return Progress(lesson, folder, content)
