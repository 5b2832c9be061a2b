"""The lab: panes over one run, a status line, and what the keys do."""

import time
from collections.abc import Callable
from pathlib import Path

from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Container
from textual.events import DescendantFocus, Resize
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Static

from tui_lab.app.actions import BY_ID, COMMANDS, applies
from tui_lab.app.panes.batch import BatchPane
from tui_lab.app.panes.config import ConfigPane
from tui_lab.app.panes.doctor import DoctorPane
from tui_lab.app.panes.events import EventsPane
from tui_lab.app.panes.generation import GenerationPane
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.screens.attention import AttentionScreen
from tui_lab.app.screens.dialogs import Ask, AskLine, Choice
from tui_lab.app.screens.help import Help
from tui_lab.app.screens.mending import Mending
from tui_lab.app.screens.runs import RunsScreen
from tui_lab.app.session.doctor_thread import CheckUp, Examine, Examined
from tui_lab.app.session.generation_thread import Speaker
from tui_lab.app.session.replay import Replay
from tui_lab.app.session.session import Ready, Source, Trouble
from tui_lab.app.widgets.footer import KeyLine
from tui_lab.app.widgets.pane import Pane
from tui_lab.app.widgets.statusline import StatusLine
from tui_lab.app.widgets.tabs import PaneTabs
from tui_lab.cli.summary_text import replaced
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.diagnose import examine_config_in_child
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.util import files

SECONDS_BETWEEN_DRAINS, SECONDS_AT_REST, SECONDS_AWAKE = 0.1, 1.0, 3.0
"""At rest: a slow model trains, nothing waits to be painted, and nobody has touched a key for a while."""
SECONDS_BETWEEN_PAINTS = 0.5
SECONDS_AT_MOST = 10.0
SECONDS_WHILE_TYPING = 5.0
SECONDS_TO_SETTLE = 1.1
PAINT_SHARE, PAINT_SHARE_OF_SLOW = 0.02, 0.006
"""Of a core, while nobody types. The threads that train wait for each other, so what one loses they all lose: a model
whose step takes `SLOW_STEP` seconds keeps them all busy, and has little that is new to paint."""
SLOW_STEP = 0.1
ONE_PANE_BELOW = (100, 30)
"""With fewer columns or lines than these one pane is shown at a time."""
TOO_SMALL_BELOW = (40, 12)
LEAVE = (
    Choice("stop", "Stop and save"),
    Choice("keep", "Keep training until it is done, then leave"),
    Choice("cancel", "Cancel"),
)


class LabScreen(Mending):
    CSS_PATH = "lab.tcss"
    BINDINGS = [
        Binding(c.keys, f"do('{c.id}')", c.footer or c.title, show=bool(c.footer), key_display=c.show_key or None)
        for c in COMMANDS
    ]

    class Leave(Message):
        """Go: quit or back to the chooser."""

        def __init__(self, lab: "LabScreen", where: str) -> None:
            super().__init__()
            self.lab, self.where = lab, where

    def __init__(
        self,
        source: Source,
        clock: Callable[[], float],
        memory: Callable[[], int] | None = None,
        examine: Examine = examine_config_in_child,
        examine_first: bool = False,
    ) -> None:
        super().__init__(source)
        self._clock = clock
        self.speaker = Speaker(source.send)
        self._active, self._zoomed = 2, False
        self._leaving = ""
        self._touched, self._painted_at, self._typed_at = True, float("-inf"), float("-inf")
        self._keyed_at, self._cpu_at_paint = float("-inf"), 0.0
        self._next_beat: Timer | None = None
        self._waiting: list[Pane] = []

        # Held here, since a query walks the whole screen, and ten ticks a second are a part of what the app costs.
        self._config, self._loss = ConfigPane(id="config"), LossPane(id="loss")
        self._batch, self._generation = BatchPane(id="batch", send=source.send), GenerationPane(id="generation")
        self._log, self._doctor = EventsPane(id="events"), DoctorPane(id="doctor", send=source.send)
        self.panes: list[Pane] = [
            self._config, self._loss, self._batch, self._generation, self._log, self._doctor
        ]  # fmt: skip
        self.checkup, self._examine_first = CheckUp(examine), examine_first
        self._status = StatusLine(id="status", **({"memory": memory} if memory else {}))

    @property
    def path(self) -> str | None:
        """The folder of the run that trains here, once it has begun; None for a replay."""
        return None if self.state.ready is None or self.replayed else self.state.ready.path

    @property
    def seconds_a_step(self) -> float | None:
        return self.state.seconds_a_step

    def compose(self) -> ComposeResult:
        yield PaneTabs(id="tabs")
        yield Static(id="banner")
        with Container(id="panes"):
            yield from self.panes
        yield Static("tui-lab needs 40×12 or more", id="small")
        yield self._status
        yield KeyLine()

    def on_mount(self) -> None:
        self.app.begin_capture_print(self._log)
        self.source.start()
        self._beat()
        self._go_to(6 if self._examine_first else 2)

    def _pane(self, number: int) -> Pane:
        return next(pane for pane in self.panes if pane.number == number)

    def _beat(self) -> None:
        """Tick, and again after a while: there is never more than one next beat."""
        if self._next_beat is not None:
            self._next_beat.stop()
        self.tick()
        awake = self._clock() - self._keyed_at < SECONDS_AWAKE
        resting = self._slow and not (awake or self._touched or self._waiting or self._generation.speaking)
        self._next_beat = self.set_timer(SECONDS_AT_REST if resting else SECONDS_BETWEEN_DRAINS, self._beat)

    @property
    def _slow(self) -> bool:
        return (self.state.seconds_a_step or 0.0) >= SLOW_STEP

    def tick(self) -> None:
        """Take what the threads have told, and let each visible pane draw what is new."""
        if not self._status.is_attached:
            return  # The screen is being taken down.
        for message in self.source.drain():
            self._take(message)
        for said in self.speaker.drain():
            self._generation.hear(said)
        for told in self.checkup.drain():
            self._doctor.hear(told)
            self._touched = True
            if isinstance(told, Examined) and self.state.started is not None:
                softened = any(finding.code == "double_softmax" for finding in told.report.findings)
                self._loss.floor = floor(self.state.started.n_vocab) if softened else None
        self._paint(self._clock())
        if self._leaving and self.state.over:
            self.post_message(self.Leave(self, self._leaving))
            self._leaving = ""

    def _paint(self, now: float) -> None:
        if not self.is_current:
            return
        # A letter must not wait for a chart: while somebody types in a field the panes are drawn less often, in turn.
        typing = now - self._typed_at < SECONDS_BETWEEN_PAINTS
        if typing and not self._waiting and now - self._painted_at < SECONDS_WHILE_TYPING:
            self._speak(now)
            return
        shown = [pane for pane in self.panes if pane.display]
        if self._touched and not typing:
            # A pane that was drawn a moment ago skips this one: the next round comes soon.
            self._touched, self._painted_at, self._waiting = False, now - self._pause() + SECONDS_TO_SETTLE, []
            for pane in shown:
                pane.show(self.state, now)
            self._status.show(self.state, now, self._note(), at_once=True)
            return
        self._status.show(self.state, now, self._note())
        if self._waiting:
            # One pane a tick, so that a key never waits for more than one.
            self._waiting.pop().show(self.state, now)
        elif now - self._painted_at >= self._pause():
            self._painted_at, self._cpu_at_paint, self._waiting = now, time.thread_time(), shown
        else:
            self._speak(now)

    def _speak(self, now: float) -> None:
        if self._generation.speaking and self._generation.display:
            self._generation.show(self.state, now)

    def _pause(self) -> float:
        """Seconds between paints, so that this thread takes its share of a core and no more."""
        spent = time.thread_time() - self._cpu_at_paint
        share = PAINT_SHARE_OF_SLOW if self._slow else PAINT_SHARE
        return min(SECONDS_AT_MOST, max(SECONDS_BETWEEN_PAINTS, spent / share))

    def on_input_changed(self) -> None:
        self._typed_at = self._clock()

    def on_key(self) -> None:
        """What a key has done shows at once, not at the next tick."""
        self._touched, self._keyed_at = True, self._clock()
        self.call_later(self._beat)

    def on_click(self) -> None:
        self.on_key()

    def _note(self) -> str:
        if isinstance(self.source, Replay):
            return f"replay ×{self.source.speed:g}{' paused' if self.source.paused else ''}"
        return "leaving when done" if self._leaving else ""

    def _take(self, message: object) -> None:
        phase, noticed = self.state.phase, len(self.state.noticed)
        self.state.see(message)
        self._log.note(message)
        if isinstance(message, Ready | ev.Started | ev.Changed):
            # Also where it cannot be seen: r, f and k take what stands edited in it.
            self._config.show(self.state, self._clock())
        if not isinstance(message, Ready):
            for finding, step in self.state.noticed[noticed:]:
                self.notify(f"{finding.verdict} {finding.fix}", title=f"step {step:,}", severity="warning")
        match message:
            case Ready():
                self._opened(message)
            case ev.SaveFailed():
                self.notify(
                    f"{message.message}. Then c saves, and Space goes on.", title="Paused: nothing can be written",
                    severity="error", timeout=20,
                )  # fmt: skip
            case ev.Warned():
                self.notify(message.message, title=f"step {message.step:,}", severity="warning")
            case ev.Failed() | Trouble():
                self.notify(message.message, title="Training cannot go on", severity="error", timeout=20)
            case ev.Stopped():
                self.notify(f"stopped at step {message.step:,}: {message.reason}")
        if self.state.phase != phase:
            self.refresh_bindings()
        if self.state.phase != phase or isinstance(message, ev.Changed | ev.Evaluated):
            self._touched = True

    def _opened(self, ready: Ready) -> None:
        """Say which mistakes are made on purpose, and examine what was just mended."""
        faults = ", ".join(ready.config.faults)
        self.query_one("#banner", Static).update(f"on purpose: {faults}   (k: the doctor)")
        self.set_class(bool(faults), "-faulty")
        if words := replaced(ready.task):
            self.notify(words, severity="warning")
        if self._examine_first:
            self._examine_first = False
            self.checkup.ask(ready.config)

    # What can be seen

    def on_resize(self, event: Resize) -> None:
        width, height = self.app.size
        self.set_class(width < TOO_SMALL_BELOW[0] or height < TOO_SMALL_BELOW[1], "-small")
        self.set_class(width < ONE_PANE_BELOW[0] or height < ONE_PANE_BELOW[1], "-single")
        self.set_class(height >= 45, "-tall")
        self._arrange()

    def _arrange(self) -> None:
        single = self.has_class("-single") or self._zoomed
        tall = self.has_class("-tall")
        for pane in self.panes:
            below = pane.number in (5, 6)
            pane.display = pane.number == self._active if single else (not below or tall or self._active == pane.number)
        self.set_class(self._zoomed, "-zoomed")
        self.set_class(not single and self._active in (5, 6) and not tall, "-below")
        self.query_one(PaneTabs).mark(self._active)

    def _go_to(self, number: int, widget: str = "") -> None:
        self._active = number
        self._arrange()
        pane = self._pane(number)
        pane.query_one(widget or pane.main).focus()

    def go_to_doctor(self) -> None:
        self._go_to(6)

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        for pane in event.widget.ancestors:
            if isinstance(pane, Pane) and pane.number != self._active:
                self._active = pane.number
                self._arrange()

    # What the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action != "do":
            return True
        needs = BY_ID[str(parameters[0])].needs
        return applies(needs, phase=self.state.phase, replayed=self.replayed)

    def action_do(self, id: str) -> None:
        self._touched = True
        if id.startswith("pane_"):
            self._go_to(int(id[-1]))
        else:
            getattr(self, f"do_{id}")()

    def do_generate(self) -> None:
        # The focus goes to the answers, not to the prompt: the next key is a command again.
        self._go_to(4, "#answers")
        self._generation.ask(self.state)

    def on_generation_pane_ask(self, message: GenerationPane.Ask) -> None:
        ready, config = self.state.ready, self.state.config
        if ready is not None and config is not None:
            self.speaker.ask(message.request, config, ready.task.tokenizer)

    def on_config_pane_chosen(self, message: ConfigPane.Chosen) -> None:
        """A live setting goes to the training at once; the others wait for r or f."""
        if settings.is_live(message.key) and applies("live", phase=self.state.phase, replayed=self.replayed):
            self.source.send(cmd.Set(message.key, message.value))

    def do_attention(self) -> None:
        found = self._batch.looked_at(self.state)
        if found is None:
            self.notify("there is no example yet", severity="warning")
            return
        self.app.push_screen(
            AttentionScreen(self.state, *found, self.source.send, self._steer, self._clock, replayed=self.replayed)
        )

    def _steer(self, id: str) -> None:
        """What another screen's key asks of this one, where it makes sense now."""
        if self.check_action("do", (id,)):
            self.action_do(id)

    def do_zoom(self) -> None:
        self._zoomed = not self._zoomed
        self._arrange()

    def do_help(self) -> None:
        self.app.push_screen(Help(self._pane(self._active).help_name))

    def do_runs(self) -> None:
        self.app.push_screen(RunsScreen())

    def do_theme(self) -> None:
        self.call_later(self.app.run_action, "next_theme")

    def do_save_config(self) -> None:
        edited = self._config.edited
        if edited is None or self.state.ready is None:
            return
        self.app.push_screen(
            AskLine("Save the config as", f"{self.state.ready.name}.toml"), lambda name: self._save(edited, name)
        )

    def _save(self, config: Config, name: str | None) -> None:
        if name is None:
            return
        path = Path(name).expanduser()
        try:
            if path.exists():
                raise FileExistsError(0, "there is a file already; nothing was written")
            files.write_text(path, settings.to_toml(config))
        except OSError as error:
            self.notify(f"{path}: {error.strerror}", severity="error")
        else:
            self.notify(f"saved {path}; train it by: tui-lab run {path}")

    def do_restart(self) -> None:
        self._again(fork=False)

    def do_fork(self) -> None:
        if not self.replayed and not self.state.over:
            self.source.send(cmd.Checkpoint())
        self._again(fork=True)

    def _again(self, *, fork: bool) -> None:
        edited = self._config.edited
        if edited is None or self.state.ready is None:
            return
        name = self.state.ready.path if fork else self.state.ready.name
        self.post_message(self.Again(self, name, edited, fork))

    def do_quit(self) -> None:
        self._leave("quit")

    def do_chooser(self) -> None:
        self._leave("chooser")

    def _leave(self, where: str) -> None:
        if self.replayed or self.state.over:
            self.post_message(self.Leave(self, where))
        else:
            self.app.push_screen(Ask("The training is not over.", LEAVE), lambda answer: self._left(where, answer))

    def _left(self, where: str, answer: str | None) -> None:
        if answer == "stop":
            self.post_message(self.Leave(self, where))
        elif answer == "keep":
            self._leaving = where
            if self.state.phase == "paused":
                self.source.send(cmd.Resume())
