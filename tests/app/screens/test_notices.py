"""Which messages of a run are shown as a toast."""

import pytest

from tests.app.fake import evaluated, update
from tui_lab.app.screens.notices import notice_of
from tui_lab.app.session.messages import Interrupted, Preparing, SessionFailed, SessionMessage
from tui_lab.core import events as ev


@pytest.mark.parametrize(
    ("message", "severity"),
    [
        (ev.SaveFailed(step=3, message="No space left on device", path="a"), "error"),
        (ev.Failed(step=3, message="loss is not finite"), "error"),
        (SessionFailed("no such file"), "error"),
        (Interrupted("process 3 exited"), "warning"),
        (ev.Warned(step=3, message="checkpoints are large"), "warning"),
        (ev.Stopped(step=3, reason="done"), "information"),
    ],
)
def test_message_is_shown_as_a_toast(message: SessionMessage, severity: str) -> None:
    notice = notice_of(message)
    assert notice is not None and notice.severity == severity
    assert getattr(message, "message", "done") in notice.text


@pytest.mark.parametrize("message", [Preparing("reading", 1, 2), update(1), evaluated(1), ev.Paused(step=1)])
def test_usual_messages_are_no_toast(message: SessionMessage) -> None:
    assert notice_of(message) is None
