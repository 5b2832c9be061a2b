"""Leads through a lesson: starts what its stages need, and draws guesses, trials and earlier runs into the chart."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from tui_lab.app.learn.chart import LessonChart
from tui_lab.app.learn.glossary_links import GlossaryLinks
from tui_lab.app.learn.guide import Guide
from tui_lab.app.learn.measure import CurrentMeasurements
from tui_lab.app.learn.script_runs import ScriptRuns, begin_terminal
from tui_lab.app.learn.shown_run import ShownRun
from tui_lab.app.learn.sources import PreparedSession
from tui_lab.app.learn.stage_trials import StageTrials
from tui_lab.app.learn.status import run_status, trials_status
from tui_lab.app.learn.strip_text import Page, bar, enter_text, pages, reached_from
from tui_lab.app.learn.trials import Trial, Trials
from tui_lab.app.session.messages import Diagnosed
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.progress import Progress
from tui_lab.util.errors import RunError

if TYPE_CHECKING:
    from tui_lab.app.learn.screen import LessonScreen

ATTENTION = "attention"
LINES_ABOVE_ATTENTION = 7
NEED_ROOM = ("batch", "doctor")
"""Panes that a stage about them shows alone."""


class LessonController:
    """Outlives the labs of the lesson's runs: each one is attached when it opens.

    make_trials: returns what runs trials; another one in tests.
    """

    def __init__(self, progress: Progress, make_trials: Callable[[Sequence[Trial]], Trials] = Trials) -> None:
        self.guide = Guide(progress)
        self.links = GlossaryLinks(self.guide)
        self._chart = LessonChart(self.guide)
        self._trials = StageTrials(self.guide, make_trials)
        self._shown_run = ShownRun(progress)
        self._page = 0
        self._lab: LessonScreen | None = None
        self._starting: Literal["", "paused", "new"] = ""
        """Which run is to start: the one that was opened paused, or a new one in another lab."""
        self._measurements = CurrentMeasurements()
        self._skipped = ""
        """The id of the stage whose question the next `n` skips."""
        self._script_runs: ScriptRuns | None = None
        """While the stage waits for the run of a script."""

    # The lab

    @property
    def progress(self) -> Progress:
        return self.guide.progress

    @property
    def lab(self) -> "LessonScreen":
        assert self._lab is not None
        return self._lab

    def attach(self, lab: "LessonScreen") -> None:
        """Continue in another lab."""
        self._lab = lab
        is_new = self._starting == "new"
        self._shown_run.attach(lab, self.guide.done.run if is_new else "" if lab.prepared else self._shown_run.wanted)
        self._starting = ""
        self._measurements = CurrentMeasurements()
        self._chart.attach(lab.loss_pane)
        self.show_stage(self._page if self.guide.need == "wait" else 0)

    def is_attached_to(self, lab: "LessonScreen") -> bool:
        return self._lab is lab

    def detach(self, lab: "LessonScreen") -> None:
        """The lab is being closed."""
        if self._lab is not lab:
            return
        self._lab = None
        if lab.prepared and lab.prepared_folder is not None:
            shutil.rmtree(lab.prepared_folder, ignore_errors=True)  # A run that was not started.
        self._trials.stop()

    def new_run_folder(self) -> Path:
        """Return a folder for a new run of the lesson, which becomes the current one. Raises RunError."""
        folder = self.progress.new_run_folder(self.guide.stage.id)
        self.guide.run_started(folder.name)
        self._starting = "new"  # What the lab still shows is not this run.
        return folder

    # Ticks

    def follow(self) -> None:
        """Take what the run and the trials have measured, and draw the strip."""
        state = self.lab.state
        if self._starting == "paused" and state.phase == "paused":
            self._starting = ""
            if isinstance(self.lab.source, PreparedSession):
                self.lab.source.release()
            self.lab.source.send(cmd.Resume())
        was_complete = self.guide.done.complete
        grown = self._trials.poll()
        if self.guide.done.complete and not was_complete:
            self._stage_changed()
        if self._script_runs is not None and (path := self._script_runs.poll()) is not None:
            self._script_run_found(path)
        shown = self.lab.frames.shown  # What the chart shows, so that the strip says nothing that is not seen yet.
        self._chart.follow(shown, self._trials.live, grown=grown)
        if self._starting != "new":
            measured = self._measurements.of(shown, self._chart.current_run_name)
            if self.guide.update(measured, self._trials.measured):
                self._stage_changed()
        if not self._starting:
            self._shown_run.follow()
        self.draw_strip()

    def receive(self, message: Diagnosed) -> None:
        """The doctor has looked at the current run's settings."""
        if self.guide.stage.diagnose is not None and self.guide.need == "action":
            self._shown_run.diagnosed(self.guide.stage.id)
            self.guide.done.report = message.report.to_json()
            self.guide.diagnosed([str(finding.code) for finding in message.report.findings])
            self._stage_changed()

    # Keys

    def enter(self) -> None:
        """Show the next page, start what the stage needs, or go to the next stage."""
        if self._starting or self._shown_run.is_closing:
            return
        if self._page < len(self._pages) - 1:
            self._page += 1
            self._stage_changed()
            return
        match self.guide.need:
            case "action":
                self._act()
            case "nothing":
                self.next_stage()
            case "question" if self.lab.strip.field is not None:
                self.lab.set_focus(self.lab.strip.field)
            case _:
                pass

    def next_stage(self) -> None:
        """Go to the next stage; what is to be kept is shown before the lesson ends, and an open question once more."""
        if not self._can_move:
            return
        if self.guide.need == "question" and self._skipped != self.guide.stage.id:
            self._skipped = self.guide.stage.id
            self._page = len(self._pages) - 1
            self._stage_changed()
            return
        if self.guide.stage.keep is not None and self._page < len(self._pages) - 1:
            self._page += 1
            self._stage_changed()
            return
        if self.guide.leave_forward():
            self._trials.stop()
            self.show_stage()
        else:
            self.lab.action_do("home")

    def previous(self) -> None:
        """Go back a page, or to the stage before."""
        if not self._can_move:
            return
        if self._page:
            self._page -= 1
            self._stage_changed()
        elif self.guide.go_to(self.guide.index - 1):
            self._trials.stop()
            self.show_stage()

    @property
    def _can_move(self) -> bool:
        """Whether no lab is about to be replaced by another one, which is for the present stage."""
        return self._lab is not None and self._starting != "new" and not self._shown_run.is_closing

    def answer(self, given: float) -> None:
        self.guide.answer(given)
        self._page = len(self._pages) - 1
        self.lab.set_focus(self.lab.strip)
        self._stage_changed()

    def sentence_typed(self, sentence: str) -> None:
        """Split a sentence; with the one that is already split, or none, continue."""
        if sentence in ("", self.guide.done.sentence) and self.guide.done.complete:
            self.enter()
        elif sentence:
            self.guide.sentence_typed(sentence)
            self._page = len(self._pages) - 1
            self._stage_changed()

    # What a stage starts

    def _act(self) -> None:
        stage = self.guide.stage
        configs = self.progress.lesson.configs[stage.id]
        try:
            if configs.start is not None:
                self._start_run(configs.start)
            elif stage.trials:
                if not self.lab.state.over:
                    self.lab.source.send(cmd.Pause())  # Two runs at once would share the processor.
                self._trials.start(configs.trials)
            elif stage.diagnose is not None and not self.lab.doctor.busy:
                self.lab.diagnose_lesson()
            elif stage.terminal is not None and stage.terminal.waits_for == "user":
                self.guide.confirmed()
            elif stage.sentence is not None:
                self.sentence_typed(self.lab.strip.sentence.value.strip())
        except RunError as error:
            self.lab.notify(str(error), severity="error")
        self._stage_changed()

    def _start_run(self, config: Config) -> None:
        """Start the run that was opened paused, if it is this one; otherwise a new one, in another lab."""
        lab = self.lab
        if lab.prepared == self.guide.stage.id and lab.prepared_folder is not None and not lab.state.step:
            self.guide.run_started(lab.prepared_folder.name)
            self._shown_run.name = lab.prepared_folder.name
            lab.prepared = ""
            lab.area.show_alone(False)
            self._starting = "paused"
            return
        self._starting = "new"
        lab.post_message(lab.Restart(lab, self.guide.stage.id, config, fork=False, diagnose=False))

    def _script_run_found(self, path: Path) -> None:
        """Make a script's run the current one, and open the lesson over it."""
        self._script_runs = None
        self.guide.run_started(str(path))
        if self.guide.stage.until is None:
            self.guide.confirmed()
        self._shown_run.open_again()

    # What is shown

    def show_stage(self, page: int = 0) -> None:
        """Show a page of the stage, by default the first one, and the pane it is about."""
        self._page = page
        pane = next((pane for pane in self.lab.panes if pane.id == self.guide.stage.pane), None)
        if pane is not None:
            self.lab.go_to(pane.number)
        stage = self.guide.stage
        # The other panes would answer what is asked before the first run; and evidence needs room.
        self.lab.area.show_alone(bool(self.lab.prepared) or stage.pane in NEED_ROOM)
        is_for_the_pane = stage.kind == "look" and stage.question is None and not stage.has_action
        if pane is None or not is_for_the_pane:
            self.lab.set_focus(self.lab.strip)
        try:
            self._script_runs = None if self.guide.has_acted else begin_terminal(self.progress)
        except RunError as error:
            self.lab.notify(str(error), severity="error")
        self._chart.draw_runs(self._trials.live)
        self._stage_changed()
        if self.guide.stage.pane == ATTENTION and self.progress.current_run(self.guide.stage.id) is not None:
            self.lab.call_later(self.lab.action_do, ATTENTION)

    def text_above_attention(self) -> Text | None:
        """Return the text of a stage that may be about the maps of attention, to stand above them."""
        if self.guide.stage.kind != "look" and self.guide.stage.pane != ATTENTION:
            return None
        width = self.lab.app.size.width - 2
        text = pages(self.guide, width, LINES_ABOVE_ATTENTION)[0].text
        return Text("\n").join([text, bar(self.guide, "▸ Esc: back to the lesson", width)])

    def _stage_changed(self) -> None:
        if self.guide.done.failed_facts:
            self._page = len(self._pages) - 1
        self._chart.draw_guesses()
        self.draw_strip()
        if self.lab.strip.field is not None:
            self.lab.set_focus(self.lab.strip.field)
        elif self.lab.strip.n_choices:
            self.lab.set_focus(self.lab.strip)
        self.lab.refresh_bindings()

    @property
    def _pages(self) -> list[Page]:
        width, lines = self.lab.room
        return pages(self.guide, width, lines)

    def draw_strip(self) -> None:
        """Draw the page and the bar."""
        lab = self.lab
        width, lines = lab.room
        shown = pages(self.guide, width, lines)
        self._page = min(self._page, len(shown) - 1)
        page = shown[self._page]
        question = self.guide.stage.question
        lab.strip.n_choices = 0 if question is None or not page.asks else len(question.choices)
        asks_number = page.asks and question is not None and question.kind == "number"
        is_busy = bool(self._starting) or (self.guide.stage.diagnose is not None and lab.doctor.busy)
        right = ("" if is_busy else enter_text(self.guide, self._page, shown)) or self._status()
        stage = self.guide.stage
        sentence = None
        if page.takes_sentence and stage.sentence is not None:
            sentence = self.guide.done.sentence or stage.sentence.default
            if lab.strip.sentence.display and lab.strip.sentence.value.strip() not in ("", self.guide.done.sentence):
                right = f"▸ Enter: {stage.action_text}"
        right = reached_from(lab.focus_place, right)
        if self.guide.need == "question" and self._skipped == stage.id:
            right += " · n skips it"
        if note := self._shown_run.note:
            right = f"{note} · {right}"
        text = bar(self.guide, right, lab.bar_width)
        lab.strip.show(page.text, text, asks_number=asks_number, sentence=sentence)

    def _status(self) -> str:
        """Return what happens while the student waits."""
        if self.guide.stage.diagnose is not None:
            return "the doctor looks…"
        if self._trials.live is not None:
            return trials_status(self._trials.live)
        state = self.lab.frames.shown
        if state.phase == "failed":
            return "the run failed; pane 5 says why"
        if self._starting or state.started is None:
            return f"{state.doing}…" if state.phase == "loading" else "starts…"
        return run_status(state)
