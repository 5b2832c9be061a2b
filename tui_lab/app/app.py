"""The app: Home, where a preset or run is picked, then the lab over one run."""

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.terminal_theme import TerminalTheme
from textual import work
from textual.app import App, SystemCommand
from textual.binding import Binding
from textual.filter import LineFilter
from textual.notifications import SeverityLevel
from textual.screen import Screen

from tui_lab.app import curve_colors, preferences, shutdown
from tui_lab.app.actions import BY_ID, COMMANDS
from tui_lab.app.closing import LabCloser
from tui_lab.app.key_names import key_label
from tui_lab.app.keymap import Keymap
from tui_lab.app.opening import AskBeforeOpening, allow, ask_for_trust, source_of
from tui_lab.app.screens.dialogs import Ask
from tui_lab.app.screens.home import Home, Pick
from tui_lab.app.textual_fixes.base_app import BaseApp
from tui_lab.app.textual_fixes.palette import Palette
from tui_lab.app.themes import THEMES
from tui_lab.app.widgets.control_filter import ControlFilter
from tui_lab.core.config import settings
from tui_lab.core.kernels.process_tuning import freeze_gc_objects, keep_freed_memory
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.lock import InUse, in_use
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import FAILED

if TYPE_CHECKING:
    from textual.command import Provider

    from tui_lab.app.learn.controller import LessonController
    from tui_lab.app.learn.list_screen import LearnScreen
    from tui_lab.app.screens.close_controls import Destination
    from tui_lab.app.screens.lab import LabScreen
    from tui_lab.app.screens.runs.screen import RunsScreen
    from tui_lab.app.session.source import Source
    from tui_lab.core.commands import CommandQueue
    from tui_lab.core.doctor.findings import Finding
    from tui_lab.core.runs.open_run import OpenRun
    from tui_lab.data.dataset import ReportProgress

ERROR_SECONDS = 30.0


def import_torch() -> None:
    """Import torch in the background while the user reads the first screen."""

    def load() -> None:
        import tui_lab.core.runs.open_run  # noqa: F401

    threading.Thread(target=load, name="torch", daemon=True).start()


def verb_provider() -> "type[Provider]":
    """Return what offers commands with arguments in the palette; imported late, as is the lab."""
    from tui_lab.app.palette.screen import VerbProvider

    return VerbProvider


class LabApp(BaseApp):
    """`first` is opened at once; `grace` is how many seconds a run may take to stop and save."""

    TITLE = "tui-lab"
    CSS_PATH = Path(__file__).with_name("app.tcss")  # A plain name would be one next to the file of a subclass.
    COMMANDS = App.COMMANDS | {verb_provider}
    BINDINGS = [
        # Textual binds Ctrl+P only if no other key opens the palette.
        Binding("ctrl+p", "command_palette", "Command palette", show=False, priority=True),
        Binding("colon", "command_palette", "Command palette", show=False),
        Binding("ctrl+q", "quit", "Quit", show=False),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False),
    ]

    def __init__(
        self,
        first: Pick | None = None,
        clock: Callable[[], float] = time.monotonic,
        grace: float = shutdown.GRACE_SECONDS,
        keymap: Keymap | None = None,
    ) -> None:
        keep_freed_memory()  # Only works in the main thread.
        super().__init__()
        self._first = first
        self.clock = clock
        self._closer = LabCloser(self, grace)
        self.keymap = keymap or Keymap()
        """The keys that the user has chosen."""
        self.opened = self._closer.opened
        """The labs whose source was started and is not closed yet."""
        self.exit_lines: list[str] = []
        """To print once the terminal is restored."""
        for theme in THEMES:
            self.register_theme(theme)
        self._preferences = preferences.load()
        self.theme = self._preferences.theme if self._preferences.theme in self.available_themes else THEMES[0].name

    def new_palette(self) -> Palette:
        from tui_lab.app.palette.screen import CommandLine

        return CommandLine()

    @property
    def ansi_theme(self) -> TerminalTheme:
        return curve_colors.terminal_theme(self.current_theme)

    def get_line_filters(self) -> Sequence[LineFilter]:
        return [*super().get_line_filters(), ControlFilter()]

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Show a toast, always without markup: it may quote a file name, a value or an error of user code."""
        super().notify(printable(message), title=printable(title), severity=severity, timeout=timeout, markup=False)

    def on_mount(self) -> None:
        self.ansi_theme_dark = curve_colors.DARK
        self.ansi_theme_light = curve_colors.LIGHT
        self.app_resume_signal.subscribe(self, lambda _: self.refresh(layout=True))
        self.set_keymap(self.keymap.for_textual())
        self.push_screen(Home())
        if self._first is not None:
            self.open(self._first)
        else:
            self.call_after_refresh(import_torch)

    def on_home_picked(self, message: Home.Picked) -> None:
        self.open(message.pick)

    def on_runs_screen_picked(self, message: "RunsScreen.Picked") -> None:
        from tui_lab.app.screens.lab import LabScreen

        if any(isinstance(screen, LabScreen) for screen in self.screen_stack):
            self.notify("A run is open. Press Esc, then w to close it first.", severity="warning")
        else:
            self.open(message.pick)

    def action_runs(self) -> None:
        from tui_lab.app.screens.runs.screen import RunsScreen

        self.push_screen(RunsScreen())

    def on_learn_screen_picked(self, message: "LearnScreen.Picked") -> None:
        from tui_lab.app.learn.opening import open_lesson

        open_lesson(self, message.lesson)

    def action_lessons(self) -> None:
        self.open(Pick("lessons", ""))

    def open(self, pick: Pick) -> None:
        """Open a pick, after the questions that it raises."""
        if pick.kind == "lessons":
            from tui_lab.app.learn.opening import open_lessons

            open_lessons(self, pick.name)
            return
        AskBeforeOpening(self, self._open).ask(pick)

    def _open(self, pick: Pick) -> None:
        self.show_lab(source_of(pick, self.clock))

    def show_lab(
        self,
        source: "Source",
        *,
        diagnose: bool = False,
        origin: str = "",
        unfixed: "Sequence[Finding]" = (),
        overlaid_run: Path | None = None,
        lesson: "LessonController | None" = None,
    ) -> None:
        """Open the lab over a run or replay and start it.

        diagnose: run the doctor once it is open. origin: which run it comes from, and with which changes.
        unfixed: what the doctor found there and is not fixed yet, to be listed until it has diagnosed this run.
        overlaid_run: the folder of a run whose curves are drawn over those of this one. lesson: leads through the
        lesson that the run belongs to.
        """
        from tui_lab.app.screens.lab import LabScreen
        from tui_lab.app.session.system_sampler import SystemSampler

        is_first = not runs.list_runs()
        layout = self._preferences.layout
        sampler = SystemSampler(lambda: source.pid)
        options: dict[str, Any] = {"layout": layout, "is_first": is_first, "sampler": sampler}
        if lesson is None:
            lab = LabScreen(source, self.clock, diagnose_first=diagnose, **options)
        else:
            from tui_lab.app.learn.screen import LessonScreen

            lab = LessonScreen(lesson, source, self.clock, diagnose_first=diagnose, **options)
        lab.origin = origin
        lab.overlaid_run = overlaid_run
        if diagnose:
            lab.doctor_pane.keep(unfixed)
        self.opened.append(lab)
        self.push_screen(lab)

    def on_lab_screen_close(self, message: "LabScreen.Close") -> None:
        # The message may come twice; the second must not close the next lab.
        if message.lab in self.screen_stack:
            self._close_lab(message.lab, message.destination, message.next_pick)

    @work(exclusive=True)
    async def _close_lab(self, lab: "LabScreen", destination: "Destination", next_pick: Pick | None) -> None:
        """Save what trains, then quit, go Home or open `next_pick`; the screen stays alive meanwhile."""
        problem = await self._closer.stop_and_save(lab)
        self._closer.remove(lab)
        self.call_later(gc.collect)  # The model, if it is part of a reference cycle.
        if destination == "quit":
            line = problem or shutdown.left_line(lab)
            self.exit_lines += [] if line is None else [line]
            self.exit(return_code=0 if problem is None else FAILED)
        elif problem is not None:
            self.notify(problem, severity="error", timeout=ERROR_SECONDS)
        elif (line := shutdown.unkept_line(lab) or shutdown.followed_line(lab)) is not None and (
            lab.lesson is None or not lab.state.over
        ):
            self.notify(line)
        for screen in self.screen_stack:
            if isinstance(screen, Home):
                screen.load()
        if next_pick is not None:
            self.open(next_pick)

    def on_lab_screen_layout_chosen(self, message: "LabScreen.LayoutChosen") -> None:
        self._preferences.layout = message.name
        preferences.save(self._preferences)
        self.notify(f"layout: {message.name}", timeout=2)

    def watch_theme(self, theme: str) -> None:
        if theme != self._preferences.theme and self.is_running:
            self._preferences.theme = theme
            preferences.save(self._preferences)

    def on_lab_screen_restart(self, message: "LabScreen.Restart") -> None:
        if message.lab in self.screen_stack:
            self._restart(message)

    @work(exclusive=True)
    async def _restart(self, message: "LabScreen.Restart") -> None:
        """Stop a run and open the lab over a new one."""
        from tui_lab.app.session.session import Session

        lab = message.lab
        config = message.config
        if message.fork and isinstance(lab.source, Session):
            lab.source.removes_unused = False  # Its checkpoint is read after it is closed.
        problem = await self._closer.stop_and_save(lab)
        if problem is not None:
            self.notify(problem, severity="error", timeout=ERROR_SECONDS)
        folder = None if lab.lesson is None else lab.lesson.new_run_folder()
        code = trust.untrusted(config.model.source)
        if code and await self.push_screen_wait(ask_for_trust(code)) == "run":
            allow(self, code)

        def open(report: "ReportProgress", commands: "CommandQueue") -> "OpenRun":
            from tui_lab.core.runs import open_run

            freeze_gc_objects()
            if message.fork:
                return open_run.fork(message.name, config, report, commands, message.step)
            return open_run.start(without_time(message.name), config, folder, report, commands)

        self._closer.remove(lab)
        session = Session(open)
        session.removes_unused = not message.fork and lab.lesson is None
        self.show_lab(
            session,
            diagnose=message.diagnose,
            origin=message.origin,
            unfixed=message.unfixed,
            overlaid_run=message.overlaid_run,
            lesson=lab.lesson,
        )

    def action_help_quit(self) -> None:
        """Quit as `q` does; Textual calls this for Ctrl-C."""
        from tui_lab.app.screens.lab import LabScreen

        labs = [screen for screen in self.screen_stack if isinstance(screen, LabScreen)]
        if not labs:
            self.exit()
        elif not isinstance(self.screen, Ask):
            labs[0].action_do("quit")

    def get_key_display(self, binding: Binding) -> str:
        return binding.key_display or key_label(binding.key)

    def action_next_theme(self) -> None:
        names = [theme.name for theme in THEMES]
        index = names.index(self.theme) if self.theme in names else -1
        self.theme = names[(index + 1) % len(names)]

    def get_system_commands(self, screen: Screen[object]) -> Iterator[SystemCommand]:
        """Offer the commands that apply in the palette, then Textual's own."""
        from tui_lab.app.screens.lab import LabScreen

        if isinstance(screen, LabScreen):
            for command in COMMANDS:
                if screen.check_action("do", (command.id,)):
                    key = self.keymap.key_of(command)
                    title = f"{command.title} ({key})" if key else command.title
                    yield SystemCommand(title, command.help, lambda id=command.id: screen.action_do(id))
        elif isinstance(screen, Home):
            yield SystemCommand("Runs (r)", BY_ID["runs"].help, self.action_runs)
            yield SystemCommand("Lessons (t)", "Lessons: real runs, trained while you watch.", self.action_lessons)
        for system in super().get_system_commands(screen):
            if system.title != "Quit":
                yield system


def without_time(name: str) -> str:
    """Return a run's name without the time at its end."""
    head, _, tail = name.rpartition("-")
    return head.rpartition("-")[0] if tail.isdigit() and head else name


def pick_of(source: str | None, overrides: Sequence[str] = ()) -> Pick | None:
    """Return what `tui-lab app SOURCE` opens: a preset or config file with KEY=VALUE overrides, or a run to replay.

    Raises ConfigError, or RunError for the folder of a run that cannot be read.
    """
    if source is not None and (source in settings.presets() or settings.is_file(Path(source))):
        settings.load(source, overrides)
        return Pick("preset", source, overrides=tuple(overrides))
    if overrides:
        message = "allowed with a PRESET or CONFIG only" + ("" if source is None else f"; {source} is neither")
        raise ConfigError.of("conflict", message, key="--set", value=overrides[0])
    if source is None:
        return None
    try:
        return Pick("replay", str(runs.find(source).path))
    except RunError:
        try:
            settings.load(source)
        except ConfigError as error:
            message = f"{error.problems[0].message}; it is not a run in {runs.runs_folder()} either"
            raise ConfigError(replace(error.problems[0], message=message)) from error
        raise


def pick_to_resume(name: str, steps: int | None = None) -> Pick:
    """Return what `tui-lab app --resume RUN` opens. steps: how many the run makes in all, if not as before.

    Raises RunError for a run of a script, one that another process trains, or one that cannot be read; ConfigError for
    a number of steps that the run has passed.
    """
    run = runs.find(name)
    run.trainer_config()
    if (holder := in_use(run.path)) is not None:
        raise InUse(run.path, holder)
    n_made = shutdown.latest_step(str(run.path)) or 0
    if steps is not None and steps < n_made:
        raise ConfigError.of("conflict", f"this run has already made {n_made:,} steps", key="--steps", value=steps)
    return Pick("resume", str(run.path), steps=steps)
