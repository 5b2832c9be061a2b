"""The time of a step is the time that it trained."""

from tui_lab.core.watch.steps.step_clock import StepClock


class FakeTime:
    """Time that passes when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_step_lasts_from_optimizer_to_optimizer_without_evaluation_and_pause() -> None:
    time = FakeTime()
    clock = StepClock(time)
    clock.training()
    time.now += 2  # Forward and backward.
    assert clock.optimizer_stepped() == 2
    time.now += 1  # The loader.
    clock.evaluation()
    time.now += 50
    assert clock.is_evaluating
    assert clock.training(), "the evaluation is over"
    time.now += 2
    assert clock.optimizer_stepped() == 3
    with clock.pause():
        time.now += 30
    time.now += 2
    assert clock.optimizer_stepped() == 2


def test_time_of_the_recorder_does_not_count() -> None:
    time = FakeTime()
    clock = StepClock(time)
    clock.training()
    time.now += 5
    clock.exclude(4)
    assert clock.optimizer_stepped() == 1


def test_what_a_step_did_before_a_pause_counts() -> None:
    time = FakeTime()
    clock = StepClock(time)
    clock.training()
    clock.optimizer_stepped()
    time.now += 2  # The forward and backward pass of the next step.
    with clock.pause():
        time.now += 30
    time.now += 1
    assert clock.optimizer_stepped() == 3


def test_evaluation_before_the_first_step_does_not_count() -> None:
    time = FakeTime()
    clock = StepClock(time)
    clock.evaluation()
    time.now += 50
    clock.training()
    time.now += 1
    assert clock.optimizer_stepped() == 1
