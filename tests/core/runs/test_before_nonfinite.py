"""What went before a step that is not finite: a raised learning rate and a growing gradient, from the log alone."""

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.core.recorded import STARTED, recorded, update
from tests.non_finite import OVERFLOW
from tui_lab.core import events as ev
from tui_lab.core.runs.before_nonfinite import BeforeNonFinite, Grown, LastLoss, LastSteps, Raised, read_before
from tui_lab.runs.listing import run_details
from tui_lab.runs.nonfinite_text import before_lines

NON_FINITE = ev.NonFinite(step=30, origin=OVERFLOW)


def steps(norms: Iterable[float], first: int = 1) -> list[ev.Event]:
    return [replace(update(step), grad_norm=norm) for step, norm in enumerate(norms, first)]


def lr(step: int, old: float, new: float, key: str = "optim.lr") -> ev.Changed:
    return ev.Changed(step=step, key=key, old=old, new=new)


def before(*events: ev.Event) -> BeforeNonFinite:
    last_steps = LastSteps()
    for event in events:
        last_steps.update(event)
    return last_steps.before(NON_FINITE)


def test_learning_rate_that_was_raised_is_named_with_its_step() -> None:
    found = before(*steps([1.0] * 28), lr(28, 0.001, 0.3), *steps([1.0] * 2, 29))
    assert found == BeforeNonFinite(Raised("optim.lr", 0.001, 0.3, 28), None, LastLoss(30, update(30).loss))
    last_loss, line = before_lines(found)
    assert "step 30" in last_loss and line.strip() == "the learning rate was raised from 0.001 to 0.3 at step 28"


def test_last_finite_loss_is_that_before_the_first_nan() -> None:
    losses = [2.0, 1.5, math.nan, math.inf]
    events = [replace(update(step), loss=loss) for step, loss in enumerate(losses, 1)]
    assert before(*events).loss == LastLoss(2, 1.5)
    assert before(*events, replace(STARTED, step=0)).loss is None, "it begins again"


def test_jump_of_a_schedule_is_named() -> None:
    rates = [0.1] * 28 + [7.0] * 2
    events = [replace(update(step), lr=rate) for step, rate in enumerate(rates, 1)]
    assert before(*events).lr == Raised("optim.lr", 0.1, 7.0, 29)
    warm_up = [replace(update(step), lr=0.01 * step) for step in range(11, 31)]
    assert before(*warm_up).lr is None


def test_several_changes_are_taken_together() -> None:
    assert before(lr(20, 0.1, 0.2), lr(22, 0.2, 0.4)).lr == Raised("optim.lr", 0.1, 0.4, 22)
    assert before(lr(20, 0.1, 0.2), lr(22, 0.2, 0.1)).lr is None, "it was undone"


@pytest.mark.parametrize(
    "change", [lr(28, 0.3, 0.1), lr(28, 0.0, 0.1, "model.dropout"), replace(lr(28, 0.1, 0.3), step=-60)]
)
def test_other_and_earlier_changes_are_not_named(change: ev.Changed) -> None:
    assert before(change).lr is None


def test_gradient_norm_that_grew_is_named_from_the_last_usual_one() -> None:
    norms = [1.0, 1.2] * 13 + [1.1, 5.0, 60.0, 4e5]
    assert before(*steps(norms)).grad_norm == Grown(1.1, 27, 4e5, 30)
    assert before(*steps([1.0, 1.2] * 14 + [3.0, 9.0])).grad_norm is None, "less than ten times the median"
    assert before(*steps([1.0, 1.0, 99.0])).grad_norm is None, "too few to know the usual one"


def test_it_is_read_from_the_end_of_the_log(tmp_path: Path) -> None:
    events = [STARTED, lr(0, 0.1, 0.2), *steps([1.0] * 90), lr(88, 0.2, 0.4)]
    run = recorded(tmp_path / "run", [*events, ev.NonFinite(step=90, origin=OVERFLOW)])
    assert read_before(run, ev.NonFinite(step=90, origin=OVERFLOW)).lr == Raised("optim.lr", 0.2, 0.4, 88)
    assert "raised from 0.2 to 0.4 at step 88" in run_details(str(run.path)).text()
