"""Which messages of a run are shown as a toast, and how."""

from dataclasses import dataclass
from typing import Any

from textual.app import App
from textual.notifications import SeverityLevel
from textual.screen import Screen

from tui_lab.app.session.messages import Interrupted, SessionFailed, SessionMessage
from tui_lab.core import events as ev
from tui_lab.runs.names import end_name
from tui_lab.runs.nonfinite_text import origin_summary

ERROR_SECONDS = 20.0
FAILED = "Training failed"
SCRIPT_GONE = "The script is gone"
INTERRUPTED = "Interrupted"
ENDS = (FAILED, SCRIPT_GONE, INTERRUPTED)
"""Titles of the toasts about the end of a run."""


@dataclass(frozen=True)
class Notice:
    """A toast; timeout in seconds, None for the app's default."""

    text: str
    title: str = ""
    severity: SeverityLevel = "information"
    timeout: float | None = None


def show_notice(screen: Screen[Any], notice: Notice) -> None:
    screen.notify(notice.text, title=notice.title, severity=notice.severity, timeout=notice.timeout)


def dismiss_ends(app: App[Any]) -> None:
    """Remove the toasts about an end: the run trains again, or another one is open."""
    for notification in list(app._notifications):
        if notification.title in ENDS:
            app._unnotify(notification)


def notice_of(message: SessionMessage) -> Notice | None:
    """Return the toast for a message, or None if the panes show enough."""
    match message:
        case ev.SaveFailed():
            hint = "Then press c to save and Space to resume."
            return Notice(f"{message.message}. {hint}", "Paused: cannot save", "error", ERROR_SECONDS)
        case ev.Warned():
            return Notice(message.message, f"step {message.step:,}", "warning")
        case ev.NonFinite():
            # In one line, so that on 24 rows the toast about the failure does not push its beginning off the screen.
            text = f"{origin_summary(message.origin)}. The Events pane says more."
            return Notice(text, f"step {message.failed_step:,}", "error", ERROR_SECONDS)
        case ev.Failed():
            return Notice(message.message, FAILED, "error", ERROR_SECONDS)
        case SessionFailed():
            title = SCRIPT_GONE if message.is_script else FAILED
            return Notice(message.message, title, "error", ERROR_SECONDS)
        case Interrupted(text) if text:
            return Notice(text, INTERRUPTED, "warning", ERROR_SECONDS)
        case ev.Stopped():
            return Notice(end_name(message), f"step {message.step:,}")
        case _:
            return None
