"""What lessons measure of runs: completion of a stage, right answers, and facts."""

import math

import pytest

from tests.core import recorded
from tui_lab.core.lessons.facts import Measurements, check_fact, is_reached, is_right, measure, right_number
from tui_lab.core.lessons.schema import Fact, Measure, Question, Until

FALLING = Measurements(
    steps=range(1, 11),
    losses=[10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
    evaluations=[(0, 9.5, 0.0), (10, 2.5, 0.75)],
    n_vocab=10,
)


def test_loss_is_that_of_one_step_at_step_0_and_else_a_mean_of_five() -> None:
    assert FALLING.value("loss", 0) == 10.0
    assert FALLING.value("loss", 6) == 7.0
    assert FALLING.value("loss", 2) == 9.5
    assert FALLING.value("loss") == FALLING.value("loss", "lowest") == 3.0
    assert FALLING.value("loss", 11) is None


def test_evaluation_is_the_last_one_until_a_step() -> None:
    assert [FALLING.value("val_loss", step) for step in (0, 5, 10, 11)] == [9.5, 9.5, 2.5, None]
    assert FALLING.value("val_loss", "lowest") == 2.5
    assert FALLING.value("exact_match") == 0.75


def test_run_without_steps_has_no_values() -> None:
    nothing = Measurements([], [])
    assert nothing.value("loss") is nothing.value("loss", 0) is nothing.value("val_loss") is None
    assert nothing.ln_vocab_size is None


def test_resumed_run_has_no_loss_at_step_0() -> None:
    assert Measurements([7, 8], [2.0, 1.0]).value("loss", 0) is None


def test_nan_is_never_the_lowest_loss() -> None:
    assert Measurements(range(1, 8), [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, math.nan]).value("loss", "lowest") == 1.0


def test_events_are_measured() -> None:
    run = measure(recorded.story(8))
    assert list(run.steps) == list(range(1, 9)) and len(run.losses) == 8
    assert run.n_vocab > 0 and run.evaluations and run.ended


@pytest.mark.parametrize(
    ("until", "reached"),
    [
        (Until(step=10), True),
        (Until(step=11), False),
        (Until(loss_below=3.5), True),
        (Until(loss_below=3.0), False),
        (Until(loss_below="ln_vocab_size"), False),
        (Until(step=10, loss_below=3.0), False),
        (Until(val_loss_below=3.0), True),
        (Until(exact_match_above=0.5), True),
        (Until(exact_match_above=0.75), False),
        (Until(ended=True), False),
    ],
)
def test_stage_is_complete_once_all_conditions_hold(until: Until, reached: bool) -> None:
    assert is_reached(until, FALLING) is reached


def test_number_is_right_within_the_tolerance() -> None:
    question = Question(ask="?", kind="number", answer="ln_vocab_size", tolerance=0.1)
    assert is_right(question, 2.3) is None
    assert [is_right(question, given, FALLING) for given in (2.3, 2.5, 3.0)] == [True, True, False]


def test_answer_can_be_measured() -> None:
    question = Question(ask="?", kind="number", measured=Measure(metric="loss", step=6))
    assert right_number(question, FALLING) == 7.0
    assert right_number(question, Measurements([1], [10.0])) is None


def test_last_value_is_known_at_the_end() -> None:
    question = Question(ask="?", kind="number", measured=Measure(metric="loss"))
    assert right_number(question, Measurements([1, 2], [10.0, 9.0])) is None
    assert right_number(question, Measurements([1, 2], [10.0, 9.0], ended=True)) == 9.5


def test_choice_is_right_by_its_number() -> None:
    question = Question(ask="?", kind="choice", choices=("a", "b"), right=2, reasons=("no", "yes"))
    assert [is_right(question, given) for given in (1, 2)] == [False, True]


def test_fact_holds_fails_or_is_not_measured_yet() -> None:
    assert check_fact(Fact(metric="loss", near=3.0), FALLING).holds is True
    assert check_fact(Fact(metric="loss", step=0, near="ln_vocab_size"), FALLING).holds is False
    assert check_fact(Fact(metric="loss", step=11, above=1.0), FALLING).holds is None
    assert check_fact(Fact(metric="loss", above=1.0), None).holds is None


def test_fact_about_trials_holds_for_each_of_them() -> None:
    fact = Fact(metric="loss", step="lowest", above=2.0, runs="trials")
    lower = Measurements([1], [1.0])
    assert check_fact(fact, None, [FALLING, FALLING]).holds is True
    checked = check_fact(fact, None, [FALLING, lower])
    assert checked.holds is False and checked.values == (3.0, 1.0)
    assert check_fact(fact, FALLING).holds is None


def test_fact_can_be_about_one_trial() -> None:
    fact = Fact(metric="loss", above=2.0, trial="low")
    assert check_fact(fact, None, [FALLING, Measurements([1], [1.0])], ["high", "low"]).values == (1.0,)
    assert check_fact(fact, None, [FALLING], ["high"]).holds is None
