"""LabState: what it makes of the events of a run."""

from dataclasses import replace

from tests.app.fake import evaluated, ready, started, update
from tui_lab.app.session.state import LabState
from tui_lab.core import events as ev


def running(steps: int = 2500) -> LabState:
    """The state of a run of `steps` steps that has made 10 of 0.01 s each."""
    state = LabState()
    opened = ready()
    state.apply(opened)
    for event in (replace(started(opened), steps=steps), *(update(step) for step in range(1, 11))):
        state.apply(event)
    return state


def test_time_left_follows_the_number_of_steps() -> None:
    for state in (running(), running(110)):
        if state.config is not None and state.config.train.steps == 2500:
            state.apply(ev.Changed(step=10, key="train.steps", old=2500, new=110))
        assert state.seconds_left is not None and round(state.seconds_left, 6) == 1.0


def test_time_of_compiling_is_not_in_the_speed() -> None:
    state = LabState()
    opened = ready("reverse", "train.compile=true")
    state.apply(opened)
    compiling = []
    for event in (
        started(opened),
        update(1, seconds=0.1, tokens_per_s=100.0),
        update(2, seconds=60.0, tokens_per_s=1.0),
        update(3, seconds=0.01, tokens_per_s=1000.0),
    ):
        state.apply(event)
        compiling.append(state.step_time.is_compiling)
    assert compiling == [True, True, False, False]
    assert (state.step_time.seconds, state.mean_tokens_per_s) == (0.01, 1000.0)
    assert state.curves["tokens_per_s"].points == [(3, 1000.0)]


def test_frozen_state_is_not_changed_by_later_messages() -> None:
    state = running()
    frozen = state.frozen()
    before = (frozen.step, len(frozen.curves["loss"].points), len(frozen.changes), frozen.progress.at("step", 11))
    for message in (update(11), ev.Changed(step=11, key="optim.lr", old=0.002, new=0.004), ev.Paused(step=11)):
        state.apply(message)
    after = (frozen.step, len(frozen.curves["loss"].points), len(frozen.changes), frozen.progress.at("step", 11))
    assert after == before and frozen.phase == "running" and state.phase == "paused"


def val(step: int, loss: float, since_best: int = 0) -> ev.Evaluated:
    return replace(evaluated(step), val_loss=loss, best=since_best == 0, since_best=since_best)


def test_rise_of_the_validation_loss_that_ends_by_itself_is_not_listed_as_past() -> None:
    state = running()
    for number in range(1, 6):
        for step in range(100 * number, 100 * number + 100):
            state.apply(update(step))
        state.apply(val(100 * number + 99, 2.0 + 0.1 * number, number - 1))
    assert [(one.finding.code, one.until) for one in state.noticed] == [("overfitting", None)]
    state.apply(val(599, 1.9))
    assert state.noticed == []
