"""The lab: panes over one run, a status line, and the keys that act on them."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding
from textual.events import DescendantFocus, Key, Resize
from textual.message import Message
from textual.screen import Screen
from textual.types import CSSPathType
from textual.widgets import Static

from tui_lab.app.actions import BY_ID, COMMANDS, applies
from tui_lab.app.keymap import LAB, keymap_of, no_key
from tui_lab.app.palette.verbs import lab_verbs
from tui_lab.app.panes.area import PaneArea
from tui_lab.app.panes.banner import Banner
from tui_lab.app.panes.batch import BatchPane
from tui_lab.app.panes.config import ConfigPane
from tui_lab.app.panes.doctor import DoctorPane
from tui_lab.app.panes.events import EventsPane
from tui_lab.app.panes.framed_log import FramedLog
from tui_lab.app.panes.generation import GenerationPane
from tui_lab.app.panes.layout import Name, PaneLayout
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.panes.pane import Pane
from tui_lab.app.panes.run_line import RunLine
from tui_lab.app.panes.setting_text import is_live
from tui_lab.app.panes.status_line import StatusLine
from tui_lab.app.panes.system import SystemPane
from tui_lab.app.screens.close_controls import Destination
from tui_lab.app.screens.home import Pick
from tui_lab.app.screens.lab_actions import LabActions, why_not_now
from tui_lab.app.screens.lab_frames import LabFrames
from tui_lab.app.screens.lab_messages import LabMessages
from tui_lab.app.screens.paint_scheduler import PaintScheduler
from tui_lab.app.session.doctor_thread import DoctorThread, Examine
from tui_lab.app.session.generation import Generation
from tui_lab.app.session.source import Source
from tui_lab.app.session.state import LabState
from tui_lab.app.session.system_sampler import NoSampler, Sampler
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.footer import ChosenKeyLine
from tui_lab.app.widgets.tabs import PaneTabs
from tui_lab.core import commands as cmd
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.script.process import examine_run

if TYPE_CHECKING:
    from tui_lab.app.learn.controller import LessonController

LOSS, DOCTOR = 2, 6
"""Numbers of panes."""
SECONDS_TO_WRITE_A_FRAME = 0.05
"""Textual writes a frame to the terminal in a thread of its own."""


class LabScreen(BaseScreen[None], Screen[None]):
    """`source` takes commands and gives messages; `state` is what the messages say so far; `frames` shows it."""

    CSS_PATH: ClassVar[CSSPathType | None] = "lab.tcss"
    AUTO_FOCUS = ""  # It gives the focus to a pane itself.
    verbs = lab_verbs
    """The palette's commands with an argument."""
    BINDINGS = [
        Binding("f1", "do('help')", "Help", show=False),  # In a field a question mark is typed.
        *(
            Binding(
                c.keys or no_key(c),
                f"do('{c.id}')",
                c.footer or c.title,
                show=bool(c.footer),
                id=f"{LAB}.{c.id}",
            )
            for c in COMMANDS
        ),
    ]

    close_when_done: Destination | None = None
    """Where to go once the training has ended, if the lab then closes."""
    stopping = False
    """Whether a stop was sent to the process that trains; the lab closes once it has stopped."""
    resumed_to_detach = False
    """Whether a paused run of another process is resumed as the lab closes."""
    origin = ""
    """Of a run that was restarted or forked: from what, and with which changes. To be set before it opens."""
    overlaid_run: Path | None = None
    """The folder of the run whose curves are drawn over those of this one. To be set before it opens."""
    _next_beat: asyncio.TimerHandle | None = None

    class Close(Message):
        """Save the run and close the lab; then open `next_pick`, if any."""

        def __init__(self, lab: "LabScreen", destination: Destination, next_pick: Pick | None = None) -> None:
            super().__init__()
            self.lab = lab
            self.destination = destination
            self.next_pick = next_pick

    class LayoutChosen(Message):
        """The user went to another layout of the panes."""

        def __init__(self, name: Name) -> None:
            super().__init__()
            self.name = name

    class Restart(Message):
        """Start a new run with an edited config; `fork`: from a checkpoint of run `name`.

        step: which one, see `Run.checkpoint_at`. origin: what the new run says of where it comes from. unfixed: the
        findings that its config does not fix. overlaid_run: the folder of the run whose curves are drawn over its own.
        """

        unfixed: Sequence[Finding] = ()
        overlaid_run: Path | None = None

        def __init__(
            self,
            lab: "LabScreen",
            name: str,
            config: Config,
            *,
            fork: bool,
            step: int | None = None,
            diagnose: bool,
            origin: str = "",
        ) -> None:
            super().__init__()
            self.lab = lab
            self.name = name
            self.config = config
            self.fork = fork
            self.step = step
            self.diagnose = diagnose
            self.origin = origin

    lesson: "LessonController | None" = None
    """Of a run of a lesson."""
    when_open: Mapping[str, Callable[[], object]] = {}
    """What keys asked for while the run was loading, by its name."""

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float],
        memory: Callable[[], int] | None = None,
        examine: Examine = examine_run,
        diagnose_first: bool = False,
        layout: Name = "overview",
        is_first: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        self.source = source
        self.state = LabState()
        if source.role in ("steering", "watching"):
            self.state.doing = "opening the run"
        self.generation = Generation(source, self.state)
        self.doctor = DoctorThread(examine)
        self.clock = clock
        self.sampler: Sampler = sampler or NoSampler()
        self.diagnose_first = diagnose_first

        # Kept as attributes: a query walks the whole screen, and a tick comes ten times a second.
        self.config_pane = ConfigPane(id="config", send=self.steer)
        self.loss_pane = LossPane(id="loss", show_rows=lambda step: self._commands.spikes.show_rows(step))
        self.batch_pane = BatchPane(id="batch", send=source.send)
        self.generation_pane = GenerationPane(id="generation")
        self.events_pane = EventsPane(id="events")
        framed_log = FramedLog(self.events_pane.note)
        self.doctor_pane = DoctorPane("doctor", source.send, lambda: self._commands.compare_runs())
        self._run_line = RunLine("run-line", self.is_enabled, is_first=is_first)
        self._status = StatusLine(id="status", **({"memory": memory} if memory else {}))
        self.panes: list[Pane] = [self.config_pane, self.loss_pane, self.batch_pane, self.generation_pane]
        self.panes += [self.events_pane, self.doctor_pane, SystemPane(id="system")]
        self._painting = PaintScheduler(self.panes)
        self.area = PaneArea(self.panes, LOSS, layout, arranged=self._arranged, id="panes")
        self._banner = Banner(id="banner")
        self._commands = LabActions(self)
        self._messages = LabMessages(self, self._painting, framed_log, self._banner, self._commands.controls)
        self.frames = LabFrames(self, self._painting, framed_log, self._run_line, self._status, self._commands.controls)

    @property
    def path(self) -> str | None:
        """The folder of the run that trains here, once it is open; None if no run trains here."""
        return self.state.ready.path if self.state.ready is not None and self.source.role == "training" else None

    def compose(self) -> ComposeResult:
        yield PaneTabs([(pane.number, pane.title) for pane in self.panes], id="tabs")
        yield self._banner
        yield self.area
        yield Static("tui-lab needs 40×12 or more", id="small")
        yield self._run_line
        yield self._status
        yield ChosenKeyLine(self.frames.footer.items)

    def on_mount(self) -> None:
        self.app.begin_capture_print(self.events_pane)
        if self.app.is_headless:
            self._start()
        else:
            self.call_after_refresh(self.set_timer, SECONDS_TO_WRITE_A_FRAME, self._start)
        self._beat()
        self.go_to(DOCTOR if self.diagnose_first else LOSS)

    def _start(self) -> None:
        """Start the run once the terminal has the first frame, which the import of torch would delay."""
        self.generation.copy_weights(at_evaluation=False)  # Before the start, so that they are those of step 0.
        self.source.start()
        self.sampler.start()

    def on_unmount(self) -> None:
        if self._next_beat is not None:
            self._next_beat.cancel()
        self.sampler.close()

    # Messages of the threads, and drawing

    def _beat(self) -> None:
        """Tick, and again after a while; there is never more than one next beat."""
        if self._next_beat is not None:
            self._next_beat.cancel()
        self.tick()
        pause = self._painting.seconds_to_next_tick(self.clock(), generating=self.generation_pane.generating)
        # Textual's set_timer inspects the signature of its callback each time, an eighth of what an idle screen costs.
        self._next_beat = asyncio.get_running_loop().call_later(pause, self.call_next, self._beat)

    def tick(self) -> None:
        """Apply the messages of the threads, then draw what is due."""
        if not self._status.is_attached:
            return  # The screen is being removed.
        self._messages.drain()
        self._painting.seconds_a_step = self.state.step_time.seconds
        self.frames.draw(self.clock())
        if self.close_when_done is not None and self.state.over:
            self.post_message(self.Close(self, self.close_when_done))
            self.close_when_done = None

    # Which panes are visible, and the focus

    @property
    def active_pane(self) -> Pane:
        return self.area.active

    def on_resize(self, event: Resize) -> None:
        self.area.place_panes()

    def _arranged(self, plan: PaneLayout) -> None:
        for name, is_set in plan.classes.items():
            self.set_class(is_set, name)
        self.query_one(PaneTabs).mark(plan.active)
        self._painting.request()

    def go_to(self, number: int, selector: str = "") -> None:
        """Show a pane and focus a widget in it, by default its main one."""
        self.area.activate(number)
        pane = self.active_pane
        self.frames.draw_pane(pane, self.clock())  # The next keys of a burst need its content.
        # At once: `Widget.focus` waits, and the next keys of a burst would go to the widget that had the focus before.
        self.set_focus(pane.query_one(selector or pane.main))

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        if event.widget is not self.focused:
            return  # The focus has moved on since.
        for pane in event.widget.ancestors:
            if isinstance(pane, Pane) and pane is not self.active_pane:
                self.area.activate(pane.number)

    def on_input_changed(self) -> None:
        self._painting.typed(self.clock())

    def on_key(self, event: Key) -> None:
        """Show what a key did at once, not at the next tick; say why a script does not have a command."""
        keys = keymap_of(self.app)
        commands = keys.commands_of_key(event.key)
        self.frames.answer("")
        enabled = [command for command in commands if self._applies(command.id)]
        reasons = [why_not_now(command.id, self.source, self.state) for command in enabled or commands]
        if reasons and all(reasons):
            self.notify(reasons[0])
        elif commands and not enabled and self.source.role == "replay" and all(c.needs == "live" for c in commands):
            edit = self.config_pane.undo_edit() if any(command.id == "undo" for command in commands) else None
            config, fork = (keys.key_of(BY_ID[id]) for id in ("pane_1", "fork"))
            recorded = f"recorded: edit settings in {config}, {fork} forks with them"
            self.frames.answer(recorded if edit is None else f"edit of {edit} undone")
        self.on_click()

    def on_click(self) -> None:
        self._painting.key_pressed(self.clock())
        self.call_later(self._beat)

    # Commands

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "do" or self.is_enabled(str(parameters[0]))

    def is_enabled(self, command_id: str, phase: str | None = None) -> bool:
        """Return whether a command applies to the run now, or when its phase was `phase`."""
        return not why_not_now(command_id, self.source, self.state) and self._applies(command_id, phase)

    def _applies(self, command_id: str, phase: str | None = None) -> bool:
        phase = phase or self.state.phase
        is_open = phase != "failed" or self.state.run_config is not None
        return applies(BY_ID[command_id].needs, phase=phase, role=self.source.role, is_open=is_open)

    def action_do(self, id: str) -> None:
        """Carry out the command of `tui_lab.app.actions` with this id."""
        self._painting.request()
        self._run_line.act(id)
        self._commands.actions[id]()

    def steer(self, command: cmd.Command) -> None:
        """Send a command; the change or pause that it asks for is shown as requested until the trainer confirms it."""
        state = self.state
        if state.config is not None:
            state.requested.sent(command, state.config, state.changes, state.step)
        if self.source.playback is None:
            state.requested_pause.sent(command, state.step, paused=state.phase == "paused")
        self.frames.show_requests()
        self._painting.request()
        self.source.send(command)

    def on_generation_pane_requested(self, message: GenerationPane.Requested) -> None:
        self.generation.start(message.request)

    def on_config_pane_value_set(self, message: ConfigPane.ValueSet) -> None:
        """Apply a live setting at once; other settings wait for a restart or fork."""
        live_now = applies("live", phase=self.state.phase, role=self.source.role)
        config = self.state.config
        if live_now and config is not None and is_live(config, message.key):
            self._commands.controls.set_live({message.key: message.value})

    def on_doctor_pane_apply(self, message: DoctorPane.Apply) -> None:
        self._commands.apply_fix(message.finding)

    def on_doctor_pane_pin(self, message: DoctorPane.Pin) -> None:
        self._commands.pin(message.sources)
