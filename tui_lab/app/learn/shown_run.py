"""Which run the panes of a lesson show: that of the stage where the student is, also when looking back."""

from typing import TYPE_CHECKING

from tui_lab.app.screens.home import Pick
from tui_lab.core.doctor.findings import report_from_json
from tui_lab.core.lessons.progress import Progress

if TYPE_CHECKING:
    from tui_lab.app.learn.screen import LessonScreen


class ShownRun:
    """Call `attach` with each lab of the lesson, and `follow` at every tick."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._lab: LessonScreen | None = None
        self.name = ""
        """Of the run that the lab shows; empty for one without a run, or with one that has not started."""
        self.is_closing = False
        """Whether the lesson is about to open again, in another lab."""
        self._diagnosed_at = ""
        """The id of the stage whose report the doctor's pane shows."""

    def attach(self, lab: "LessonScreen", name: str) -> None:
        """The lab shows the run with this name; empty: none yet."""
        self._lab = lab
        self.name = name
        self.is_closing = False
        self._diagnosed_at = ""

    @property
    def wanted(self) -> str:
        """The name of the current run at the stage; empty before the first one."""
        run = self._progress.current_run(self._progress.stage.id)
        return "" if run is None else run.name

    @property
    def note(self) -> str:
        """Which stage's run the panes show, if they do not show the one of this stage; otherwise empty."""
        is_of_stage = self.name == self._progress.of(self._progress.stage.id).run  # Also before it is a run on disk.
        if is_of_stage or self.name == self.wanted:
            return ""
        stages = enumerate(self._progress.lesson.stages, 1)
        number = next((i for i, stage in stages if self._progress.of(stage.id).run == self.name and self.name), None)
        return "" if number is None else f"panes: stage {number}"

    def follow(self) -> None:
        """Open the run of the stage, unless the one that is shown still trains; show what the doctor said of it."""
        lab = self._lab
        if lab is None or self.is_closing:
            return
        can_close = lab.source.role == "replay" or (lab.state.over and lab.state.phase != "failed")
        if self.name != self.wanted and (can_close or not self.name):
            self.open_again()
        elif lab.state.ready is not None and self.name == self.wanted:
            self._restore_report(lab)

    def open_again(self) -> None:
        """Close the lab, and open the lesson where the student is."""
        assert self._lab is not None
        self.is_closing = True
        self._lab.post_message(self._lab.Close(self._lab, "home", Pick("lessons", str(self._progress.lesson.folder))))

    def diagnosed(self, stage_id: str) -> None:
        """The doctor's pane shows the report of this stage."""
        self._diagnosed_at = stage_id

    def _restore_report(self, lab: "LessonScreen") -> None:
        """Show the latest report on the run, from this stage or one before it."""
        progress = self._progress
        for stage in reversed(progress.lesson.stages[: progress.index + 1]):
            done = progress.of(stage.id)
            if done.report and stage.id != self._diagnosed_at and lab.state.run_config is not None:
                lab.doctor.show(lab.state.run_config, report_from_json(done.report))
            if done.report:
                self._diagnosed_at = stage.id
            if done.report or done.run:
                return
