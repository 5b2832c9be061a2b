"""The app: a chooser, then the lab over one run."""

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text
from textual import work
from textual.app import SystemCommand
from textual.binding import Binding
from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.theme import Theme

from tui_lab.app import shutdown
from tui_lab.app.actions import BY_ID, COMMANDS, key_of
from tui_lab.app.screens.chooser import Chooser, Pick
from tui_lab.app.screens.dialogs import Ask, Choice
from tui_lab.app.textual_fixes.base_app import BaseApp
from tui_lab.app.widgets.control_filter import OnlyVisible
from tui_lab.core.config import settings
from tui_lab.core.kernels.process_tuning import freeze_gc_objects, keep_freed_memory
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.lock import in_use
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import FAILED

if TYPE_CHECKING:
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.app.screens.lab_actions import Destination
    from tui_lab.app.screens.runs import RunsScreen
    from tui_lab.app.session.session import Report, Session
    from tui_lab.app.session.source import Source
    from tui_lab.core.commands import CommandQueue
    from tui_lab.core.config.schema import Config
    from tui_lab.core.runs.open_run import OpenRun

HIGH_CONTRAST = Theme(
    name="high-contrast", primary="#ffff00", secondary="#00ffff", accent="#ffffff", warning="#ffaf00", error="#ff5f5f",
    success="#5fff5f", foreground="#ffffff", background="#000000", surface="#000000", panel="#000000", boost="#303030",
    dark=True,
)  # fmt: skip
VIEW = (Choice("view", "Look at what it has recorded so far"), Choice("cancel", "Leave it alone"))
RUN_CODE = (Choice("look", "Do not run it"), Choice("run", "Run it, now and later: I trust this file"))
UNSAVED = (Choice("save", "Try to save again"), Choice("lose", "Leave: what was trained since the last save is lost"))
THEMES = ("textual-dark", "textual-light", "high-contrast")
LEFT_BEHIND = FAILED
"""The exit code if training did not respond."""
SECONDS_BEFORE_TOLD = 2.0
"""Most trainings stop sooner: then there is no need to say that one waits."""


def open_pick(pick: Pick, report: "Report", commands: "CommandQueue") -> "OpenRun":
    """What was picked, made ready in the worker's thread: torch is imported here."""
    from tui_lab.core.runs import open_run as opening

    freeze_gc_objects()
    if pick.kind == "resume":
        return opening.resume(pick.name, None, report, commands)
    return opening.start_from(pick.name, pick.overrides, None, report, commands)


def code_of(pick: Pick) -> str:
    """FILE.py:NAME that it would run and that the person has not named; else "". Raises ConfigError, RunError."""
    config = settings.load(pick.name, pick.overrides) if pick.kind == "preset" else runs.find(pick.name).config()
    return trust.untrusted(config.model.source)


def before_code(code: str) -> Ask:
    return Ask(f"This would run {code}, which is new here or has changed since you allowed it.", RUN_CODE)


class LabApp(BaseApp):
    """`first` opens at once what would else be chosen; grace: seconds that a training may take to stop and save."""

    TITLE = "tui-lab"
    BINDINGS = [
        Binding("ctrl+q", "quit", "Quit", show=False),
        Binding("ctrl+z", "suspend_process", "To the shell; fg comes back", show=False),
    ]

    def __init__(
        self,
        first: Pick | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace: float = shutdown.GRACE_SECONDS,
    ) -> None:
        keep_freed_memory()  # Here, since the training's thread is not the first.
        super().__init__()
        self._first, self._clock, self._grace = first, clock, grace
        self.opened: list[shutdown.Ongoing] = []
        """The labs whose source has been started and not yet been closed."""
        self._torch_ready = threading.Event()
        self.register_theme(HIGH_CONTRAST)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), OnlyVisible()]

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Always without markup: a message may quote a file's name, a value, or what a stranger's code raised."""
        super().notify(printable(message), title=printable(title), severity=severity, timeout=timeout, markup=False)

    def on_mount(self) -> None:
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self.push_screen(Chooser())
        if self._first is not None:
            self.open(self._first)
        else:
            self.call_after_refresh(self._warm_up)

    def _warm_up(self) -> None:
        """Load torch while the person reads."""
        self._say_torch("loading torch in the background …")
        threading.Thread(target=self._load_torch, name="torch", daemon=True).start()
        self._waiting = self.set_interval(0.2, self._torch_loaded)

    def _load_torch(self) -> None:
        import tui_lab.core.runs.open_run  # noqa: F401

        self._torch_ready.set()

    def _torch_loaded(self) -> None:
        if self._torch_ready.is_set():
            self._waiting.stop()
            self._say_torch("torch is loaded")

    def _say_torch(self, text: str) -> None:
        for screen in self.screen_stack:
            if isinstance(screen, Chooser):
                screen.call_later(screen.torch_is, text)  # When it is made.

    def on_chooser_picked(self, message: Chooser.Picked) -> None:
        self.open(message.pick)

    def on_runs_screen_picked(self, message: "RunsScreen.Picked") -> None:
        from tui_lab.app.screens.lab import LabScreen

        if any(isinstance(screen, LabScreen) for screen in self.screen_stack):
            self.notify("one run is open: leave it first, by q and then w", severity="warning")
        else:
            self.open(message.pick)

    def action_runs(self) -> None:
        from tui_lab.app.screens.runs import RunsScreen

        self.push_screen(RunsScreen())

    def open(self, pick: Pick) -> None:
        """Open what was picked, after a question where somebody else records it or where it would run a file."""
        holder = in_use(Path(pick.name)) if pick.kind == "resume" else None
        if holder is not None:
            viewed = Pick("replay", pick.name)
            self.push_screen(Ask(f"{Path(pick.name).name} is being recorded by {holder}.", VIEW),
                             lambda answer: self.open(viewed) if answer == "view" else None)  # fmt: skip
            return
        try:
            code = code_of(pick)
        except (ConfigError, RunError):
            code = ""  # Told where it is opened.
        if code:
            self.push_screen(before_code(code),
                             lambda answer: self._answered(pick, code, answer))  # fmt: skip
        else:
            self._open(pick)

    def _answered(self, pick: Pick, code: str, answer: str | None) -> None:
        if answer == "run":
            self._trust(code)
        if answer == "run" or (answer == "look" and pick.kind == "replay"):
            self._open(pick)

    def _trust(self, code: str) -> None:
        try:
            trust.allow(code)
        except ConfigError as error:
            self.notify(str(error), severity="error")

    def _open(self, pick: Pick) -> None:
        if pick.kind == "replay":
            from tui_lab.app.session.replay import Replay

            self.show_lab(Replay(pick.name, self._clock))
        else:
            self.show_lab(self._session(lambda report, commands: open_pick(pick, report, commands), paused=pick.paused))

    def _session(self, open: "Callable[[Report, CommandQueue], OpenRun]", *, paused: bool = False) -> "Session":
        from tui_lab.app.session.session import Session

        return Session(open, paused=paused)

    def show_lab(self, source: "Source", *, diagnose: bool = False) -> None:
        """Open the lab over a training or replay and start it; `diagnose`: run the doctor once it is open."""
        from tui_lab.app.screens.lab import LabScreen

        lab = LabScreen(source, self._clock, diagnose_first=diagnose)
        self.opened.append(lab)
        self.push_screen(lab)

    def on_lab_screen_close(self, message: "LabScreen.Close") -> None:
        # The message may come twice; the second must not close the next lab.
        if message.lab in self.screen_stack:
            self._close_lab(message.lab, message.destination)

    @work(exclusive=True)
    async def _close_lab(self, lab: "LabScreen", destination: "Destination") -> None:
        """Save what runs, then leave; the screen stays alive meanwhile."""
        words = await self._stop_and_save(lab)
        self._take_down(lab)
        self.call_later(gc.collect)  # Its model, where something in it points back to it.
        if destination == "quit":
            self.exit(return_code=LEFT_BEHIND if words else 0, message=Text(printable(words)) if words else None)
        elif words:
            self.notify(words, severity="error", timeout=30)
        for screen in self.screen_stack:
            if isinstance(screen, Chooser):
                screen.load()

    async def _save_or_lose(self, source: "Source") -> None:
        """Where the last state could not be saved: ask until it is, or until the person gives it up."""
        import asyncio

        from tui_lab.app.session.session import Session

        while isinstance(source, Session) and source.unsaved:
            if await self.push_screen_wait(Ask(f"Not saved: {source.unsaved}.", UNSAVED)) == "lose":
                return
            await asyncio.to_thread(source.save_again)

    def _take_down(self, lab: "LabScreen") -> None:
        """Remove a lab with what was opened over it while it was being saved, and nothing else."""
        while lab in self.screen_stack:
            self.pop_screen()

    async def _stop_and_save(self, lab: "LabScreen") -> str:
        """Wait until a lab's run is saved; what to say where its training does not answer."""
        import asyncio

        lab.generation.stop()
        lab.source.close()
        await asyncio.to_thread(lab.doctor.stop)
        patience = shutdown.grace(lab.state.seconds_a_step, self._grace)
        answered = await asyncio.to_thread(lab.source.join, min(SECONDS_BEFORE_TOLD, patience))
        if not answered:
            lab.notify(f"waiting for the training to finish its step and save; after {patience:,.0f} s it is left")
            answered = await asyncio.to_thread(lab.source.join, patience)
        if lab in self.opened:
            self.opened.remove(lab)
        if answered:
            await self._save_or_lose(lab.source)
        return "" if answered else shutdown.unanswered(lab.path, patience)

    def on_lab_screen_restart(self, message: "LabScreen.Restart") -> None:
        if message.lab in self.screen_stack:
            self._restart(message.lab, message.name, message.config, fork=message.fork, diagnose=message.diagnose)

    @work(exclusive=True)
    async def _restart(self, lab: "LabScreen", name: str, config: "Config", *, fork: bool, diagnose: bool) -> None:
        if words := await self._stop_and_save(lab):
            self.notify(words, severity="error", timeout=30)
        code = trust.untrusted(config.model.source)
        if code and await self.push_screen_wait(before_code(code)) == "run":
            self._trust(code)

        def open(report: "Report", commands: "CommandQueue") -> "OpenRun":
            from tui_lab.core.runs import open_run as opening

            freeze_gc_objects()
            if fork:
                return opening.fork(name, config, report, commands)
            return opening.start(stem(name), config, None, report, commands)

        self._take_down(lab)
        self.show_lab(self._session(open), diagnose=diagnose)

    def action_next_theme(self) -> None:
        at = THEMES.index(self.theme) if self.theme in THEMES else -1
        self.theme = THEMES[(at + 1) % len(THEMES)]

    def get_system_commands(self, screen: Screen[object]) -> Iterator[SystemCommand]:
        """The palette: every command of the registry that applies, then Textual's own."""
        from tui_lab.app.screens.lab import LabScreen

        if isinstance(screen, LabScreen):
            for command in COMMANDS:
                if screen.check_action("do", (command.id,)):
                    title = f"{command.title} ({key_of(command)})"
                    yield SystemCommand(title, command.help, lambda id=command.id: screen.action_do(id))
        elif isinstance(screen, Chooser):
            yield SystemCommand("Runs (r)", BY_ID["runs"].help, self.action_runs)
        for system in super().get_system_commands(screen):
            if system.title not in ("Quit",):
                yield system


def stem(name: str) -> str:
    """A run's name without the time it was made at."""
    head, _, tail = name.rpartition("-")
    return head.rpartition("-")[0] if tail.isdigit() and head else name


def pick_of(source: str | None, overrides: Sequence[str] = ()) -> Pick | None:
    """What `tui-lab app SOURCE` opens: a preset or file to start, with KEY=VALUE overrides; a run to replay.

    Raises ConfigError.
    """
    if source is not None and (source in settings.presets() or settings.is_file(Path(source))):
        settings.load(source, overrides)
        return Pick("preset", source, overrides=tuple(overrides))
    if overrides:
        what = "without a source" if source is None else f"{source} is neither"
        raise ConfigError([f"--set {overrides[0]}: allowed with a PRESET or CONFIG only, and {what}"])
    if source is None:
        return None
    try:
        return Pick("replay", str(runs.find(source).path))
    except RunError:
        try:
            settings.load(source)
        except ConfigError as error:
            raise ConfigError([f"{error.problems[0]}; nor is it a run in {runs.runs_folder()}"]) from error
        raise
