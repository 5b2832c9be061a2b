"""The panes of a lesson show the run of the stage where the student is, with what the doctor said of it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from tests.app.fake import ready
from tests.app.learn.test_guide import SMALL
from tests.app.panes.test_doctor import SOFTMAX_TWICE, report
from tui_lab.app.learn.screen import LessonScreen
from tui_lab.app.learn.shown_run import ShownRun
from tui_lab.app.learn.sources import NoRun, lesson_source
from tui_lab.app.session.state import LabState
from tui_lab.core.config import settings
from tui_lab.core.doctor.findings import Report
from tui_lab.core.lessons.load import find_lesson, load_lesson
from tui_lab.core.lessons.progress import Progress, load_progress
from tui_lab.core.runs import run_files


class Lab:
    """What `ShownRun` needs of a lab: over a run that has ended, or trains."""

    def __init__(self, *, is_over: bool, role: str = "training") -> None:
        self.state = LabState()
        self.state.apply(ready("confusion-3"))
        self.state.phase = "ended" if is_over else "running"
        self.source = SimpleNamespace(role=role)
        self.doctor = SimpleNamespace(show=lambda config, report: self.reports.append(report))
        self.reports: list[Report] = []
        self.closed: list[Any] = []

    def Close(self, lab: object, destination: str, pick: object) -> object:  # noqa: N802
        return pick

    def post_message(self, message: object) -> None:
        self.closed.append(message)


def progress_with_runs(*stages: str) -> Progress:
    """Return the progress in the small lesson, in which these stages have started a run."""
    progress = load_progress(load_lesson(SMALL))
    for stage in stages:
        folder: Path = progress.new_run_folder(stage)
        (folder / run_files.CONFIG).write_text(settings.to_toml(settings.load("confusion-3")), "utf-8")
        progress.of(stage).run = folder.name
    return progress


def shown(progress: Progress, lab: Lab, name: str) -> ShownRun:
    shown_run = ShownRun(progress)
    shown_run.attach(cast(LessonScreen, lab), name)
    return shown_run


def test_looking_back_opens_the_run_of_that_stage() -> None:
    progress = progress_with_runs("see", "fix")
    lab = Lab(is_over=True)
    shown_run = shown(progress, lab, progress.of("fix").run)
    progress.go_to("keep")
    shown_run.follow()
    assert not lab.closed
    progress.go_to("look")
    assert shown_run.note == "panes: stage 5"
    shown_run.follow()
    shown_run.follow()
    (pick,) = lab.closed
    assert (pick.kind, pick.name, shown_run.is_closing) == ("lessons", str(SMALL), True)


def test_run_that_still_trains_stays_open() -> None:
    progress = progress_with_runs("see", "fix")
    lab = Lab(is_over=False)
    shown_run = shown(progress, lab, progress.of("fix").run)
    progress.go_to("see")
    shown_run.follow()
    assert not lab.closed and shown_run.note


def test_run_of_the_stage_that_is_still_loading_has_no_note() -> None:
    progress = progress_with_runs("see")
    progress.go_to("fix")
    progress.of("fix").run = progress.new_run_folder("fix").name
    assert shown(progress, Lab(is_over=False), progress.of("fix").run).note == ""


def test_report_on_the_run_is_shown_from_its_stage_on_once() -> None:
    progress = progress_with_runs("see", "fix")
    progress.of("diagnose").report = report(SOFTMAX_TWICE).to_json()
    for stage, n_reports in (("look", 0), ("diagnose", 1), ("fix", 0), ("keep", 0)):
        progress.go_to(stage)
        lab = Lab(is_over=True, role="replay")
        run = progress.current_run(stage)
        assert run is not None
        shown_run = shown(progress, lab, run.name)
        shown_run.follow()
        shown_run.follow()
        assert [len(each.findings) for each in lab.reports] == [1] * n_reports, stage


def test_looking_back_to_before_the_first_run_opens_none() -> None:
    lesson = load_lesson(find_lesson("1-x-and-y"))
    progress = load_progress(lesson)
    progress.go_to("start")
    assert lesson_source(progress, lambda: 0.0).prepared == "train"
    folder = progress.new_run_folder("train")
    (folder / run_files.CONFIG).write_text(settings.to_toml(settings.load("confusion-1")), "utf-8")
    progress.of("train").run = folder.name
    assert isinstance(lesson_source(progress, lambda: 0.0).source, NoRun)
