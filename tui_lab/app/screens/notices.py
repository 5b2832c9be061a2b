"""Which messages of a run are shown as a toast, and how."""

from dataclasses import dataclass
from typing import Any

from textual.notifications import SeverityLevel
from textual.screen import Screen

from tui_lab.app.session.messages import SessionFailed, SessionMessage
from tui_lab.core import events as ev
from tui_lab.runs.names import state_name

ERROR_SECONDS = 20.0


@dataclass(frozen=True)
class Notice:
    """A toast; timeout in seconds, None for the app's default."""

    text: str
    title: str = ""
    severity: SeverityLevel = "information"
    timeout: float | None = None


def show_notice(screen: Screen[Any], notice: Notice) -> None:
    screen.notify(notice.text, title=notice.title, severity=notice.severity, timeout=notice.timeout)


def notice_of(message: SessionMessage) -> Notice | None:
    """Return the toast for a message, or None if the panes show enough."""
    match message:
        case ev.SaveFailed():
            hint = "Then press c to save and Space to resume."
            return Notice(f"{message.message}. {hint}", "Paused: cannot save", "error", ERROR_SECONDS)
        case ev.Warned():
            return Notice(message.message, f"step {message.step:,}", "warning")
        case ev.Failed():
            return Notice(message.message, "Training failed", "error", ERROR_SECONDS)
        case SessionFailed():
            title = "The script is gone" if message.is_script else "Training failed"
            return Notice(message.message, title, "error", ERROR_SECONDS)
        case ev.Stopped():
            return Notice(state_name(message.reason), f"step {message.step:,}")
        case _:
            return None
