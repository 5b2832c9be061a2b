"""What the lab draws at each tick, so that all its parts show the run at one step."""

from dataclasses import replace
from typing import TYPE_CHECKING

from tui_lab.app.actions import applies
from tui_lab.app.panes.framed_log import FramedLog
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.run_line import RunLine
from tui_lab.app.panes.status_line import StatusLine
from tui_lab.app.screens.lab_footer import LabFooter
from tui_lab.app.screens.paint_scheduler import PaintScheduler
from tui_lab.app.screens.run_controls import RunControls
from tui_lab.app.session.state import LabState

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen


SECONDS_OF_ANSWER = 8.0


class LabFrames:
    """Draws the panes of a lab, its log, and the lines below the panes."""

    def __init__(
        self,
        lab: "LabScreen",
        painting: PaintScheduler[Pane],
        log: FramedLog,
        run_line: RunLine,
        status: StatusLine,
        controls: RunControls,
    ) -> None:
        self._lab = lab
        self._painting = painting
        self._log = log
        self._run_line = run_line
        self._status = status
        self.footer = LabFooter(lab)
        self._controls = controls
        self._answer = ""
        self._answered_at: float | None = None
        self.shown = LabState()
        """What the panes show: the state of the lab as of the last new frame."""

    def answer(self, text: str) -> None:
        """Say something about the last key in the status line, for a while or until the next key."""
        self._answer = text
        self._answered_at = None

    @property
    def pauses_at_start(self) -> bool:
        """Whether a run that is being opened is to pause as soon as it can."""
        return self._controls.pauses_at_start

    def show_requests(self) -> None:
        """Let the panes show what was asked for since the last new frame."""
        self.shown.requested = self._lab.state.requested.copy()
        self.shown.requested_pause = replace(self._lab.state.requested_pause)

    def draw(self, now: float) -> None:
        """Draw what is due."""
        lab = self._lab
        if not lab.is_current:
            self._log.log_until(None)
            return
        frame = self._painting.due(now, growing=lab.generation_pane if lab.generation_pane.generating else None)
        can_steer = applies("live", phase=lab.state.phase, role=lab.source.role)
        lab.config_pane.can_steer = can_steer
        lab.doctor_pane.can_steer = can_steer
        lab.batch_pane.is_replay = lab.source.role == "replay"
        if frame.new or (frame.complete and lab.source.playback is not None):  # The seek bar shows the present step.
            self.shown = lab.state.frozen()
        self._log.log_until(self.shown.step)
        for pane in frame.panes:
            self.draw_pane(pane, now)
        lab.area.update(self.shown)
        if frame.complete:
            self._run_line.show(self.shown, lab.source.playback, now)
            if self._answered_at is None:
                self._answered_at = now
            elif now - self._answered_at > SECONDS_OF_ANSWER:
                self._answer = ""
            self._status.show(self.shown, now, self._note(), self._answer, is_replayed=lab.source.playback is not None)
        self.footer.follow(self.shown)

    def draw_pane(self, pane: Pane, now: float) -> None:
        pane.draw(self._lab.state if pane.shows_latest else self.shown, now)

    def _note(self) -> str:
        """Return what the status line says of what comes next."""
        lab = self._lab
        if lab.state.phase == "loading" and self.pauses_at_start:
            return "pauses before the first step" if lab.source.role == "training" else "pauses as soon as it can"
        if lab.stopping and not lab.state.over:
            return "stopping…"
        if self.shown.requested_pause.is_ahead(self.shown.phase):
            return pause_text(self.shown)
        return lab.source.status_note() or ("closes when done" if lab.close_when_done is not None else "")


def pause_text(state: LabState) -> str:
    """Return when a run pauses that was asked to."""
    step = state.requested_pause.step
    if step is None or step <= state.step + 1:
        return "pauses after the first step" if state.phase == "waiting" else "pauses after this step"
    return f"pauses after step {step:,}"
