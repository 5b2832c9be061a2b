"""Which messages of a run are shown as a toast."""

from dataclasses import replace

import pytest
from textual.widgets._toast import Toast

from tests.app.fake import evaluated, lab, update
from tests.non_finite import OVERFLOW
from tui_lab.app.screens.notices import notice_of
from tui_lab.app.session.messages import Interrupted, Preparing, SessionFailed, SessionMessage
from tui_lab.core import events as ev
from tui_lab.core.nonfinite.record import BatchRow, TensorRange


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


NON_FINITE = ev.NonFinite(
    step=30,
    origin=replace(
        OVERFLOW,
        dtype="float32",
        inputs=(TensorRange(name="weight", dtype="float32", shape=(256, 64), low=-1e38, high=1e38),),
        output=TensorRange(name="output", dtype="float32", shape=(176, 64), low=-1.0, high=1.0, n_inf=18),
        rows=(BatchRow(row=7, example=58767, positions=(0, 1), text="21777337771"),),
        n_batch=16,
        line="/home/somebody/projects/transformer/model.py:118",
    ),
)


async def test_non_finite_loss_is_named_beside_the_failure_and_told_in_full_by_the_events() -> None:
    async with lab(size=(80, 24), toasts=True) as it:
        await it.tell(
            *(update(step, grad_norm=1.0) for step in range(1, 29)),
            ev.Changed(step=28, key="optim.lr", old=0.001, new=0.3),
            update(29, grad_norm=1.0),
            update(30, grad_norm=500.0),
            NON_FINITE,
            ev.Failed(step=30, message=f"the loss of step 31 is not finite {'(loss nan) ' * 9}"),
        )
        toasts = it.screen.query(Toast)
        assert [toast._notification.title for toast in toasts] == ["step 31", "Training failed"]
        assert all(it.screen.region.contains_region(toast.region) for toast in toasts), "none is pushed off the screen"
        text = toasts.first()._notification.message
        assert "layers.1.W_2 (Linear)" in text and "1 of 16 rows" in text
        assert it.screen.state.over
        await it.press("5")
        log = it.screen.events_pane.copied()
        assert "the learning rate was raised from 0.001 to 0.3 at step 28" in log
        assert "the gradient norm grew from 1 at step 29 to 500 at step 30" in log
        assert "step 31: non-finite first" in log and "failed after step 30: the loss of step 31" in log
        assert all(part in log for part in ("layers.1.W_2", "weight 256×64", "row 8, example 58,767", "21777337771"))
