"""Open what the user picked: the questions before, and the source of the lab."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import App

from tui_lab.app.labels import holder_text
from tui_lab.app.resuming import why_not_resumable
from tui_lab.app.screens.dialogs import Ask, Choice
from tui_lab.app.screens.home import Pick
from tui_lab.core import commands as cmd
from tui_lab.core.config import settings
from tui_lab.core.kernels.process_tuning import freeze_gc_objects
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.lock import Holder, in_use
from tui_lab.core.user_code import trust
from tui_lab.util.errors import ConfigError, RunError

if TYPE_CHECKING:
    from tui_lab.app.session.source import Source
    from tui_lab.core.commands import CommandQueue
    from tui_lab.core.runs.open_run import OpenRun
    from tui_lab.data.dataset import ReportProgress

IN_USE_CHOICES = (Choice("view", "Follow it live"), Choice("cancel", "Cancel"))
TRUST_CHOICES = (Choice("no", "Do not run it"), Choice("run", "Run it, now and in future runs: I trust this file"))


def open_pick(pick: Pick, report: "ReportProgress", commands: "CommandQueue") -> "OpenRun":
    """Open a preset or resume a run; called in the training thread, which imports torch."""
    from tui_lab.core.runs import open_run

    freeze_gc_objects()
    if pick.kind == "resume":
        return open_run.resume(pick.name, pick.steps, report, commands)
    return open_run.start_from(pick.name, pick.overrides, None, report, commands)


def untrusted_code(pick: Pick) -> str:
    """Return the FILE.py:NAME that a pick would run without the user's permission, or "".

    Raises ConfigError and RunError if the config cannot be read.
    """
    config = (
        settings.load(pick.name, pick.overrides) if pick.kind == "preset" else runs.find(pick.name).trainer_config()
    )
    return trust.untrusted(config.model.source)


def ask_for_trust(code: str) -> Ask:
    return Ask(f"This runs {code}, which is new here or has changed since you trusted it.", TRUST_CHOICES)


def source_of(pick: Pick, clock: Callable[[], float]) -> "Source":
    """Return what the lab shows: a session that trains, a run that another process trains, or a replay."""
    if pick.kind != "replay":
        from tui_lab.app.session.session import Session

        session = Session(lambda report, commands: open_pick(pick, report, commands), paused=pick.paused)
        session.removes_unused = pick.kind == "preset"
        for key, value in pick.changes:
            session.send(cmd.Set(key, value))  # The trainer takes it before its first step.
        return session
    holder = in_use(Path(pick.name))
    if holder is not None:
        from tui_lab.app.session.following import Following

        return Following(pick.name, holder)
    from tui_lab.app.session.replay import Replay

    return Replay(pick.name, clock)


class AskBeforeOpening:
    """Asks if another process trains the run, or if code would run that the user does not trust; then calls `open`."""

    def __init__(self, app: App[None], open: Callable[[Pick], object]) -> None:
        self._app = app
        self._open = open

    def ask(self, pick: Pick) -> None:
        """Open a pick, at once or after the user's answer."""
        holder = in_use(Path(pick.name)) if pick.kind == "resume" else None
        if holder is not None:
            self._ask_to_view(pick, holder)
            return
        if pick.kind == "resume" and pick.steps is None and (reason := why_not_resumable(Path(pick.name))):
            self._app.notify(reason, severity="warning")
            self._open(Pick("replay", pick.name))
            return
        try:
            code = untrusted_code(pick)
        except (ConfigError, RunError):
            code = ""  # The session reports the error.
        if code:
            self._app.push_screen(ask_for_trust(code), lambda answer: self._trust_answered(pick, code, answer))
        else:
            self._open(pick)

    def _ask_to_view(self, pick: Pick, holder: Holder) -> None:
        def answered(answer: str | None) -> None:
            if answer == "view":
                self.ask(Pick("replay", pick.name))

        question = f"Run {Path(pick.name).name} is being trained by {holder_text(holder, time.time())}."
        self._app.push_screen(Ask(question, IN_USE_CHOICES), answered)

    def _trust_answered(self, pick: Pick, code: str, answer: str | None) -> None:
        if answer == "run":
            allow(self._app, code)
        if answer == "run" or (answer == "no" and pick.kind == "replay"):
            self._open(pick)


def allow(app: App[None], code: str) -> None:
    """Remember that the user trusts a file, or say why that failed."""
    try:
        trust.allow(code)
    except ConfigError as error:
        app.notify(str(error), severity="error")
