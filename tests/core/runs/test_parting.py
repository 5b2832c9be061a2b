"""Where the train losses of two runs part."""

from dataclasses import replace

import numpy as np

from tests.core.runs.simulated import noise, trained
from tui_lab.core import events as ev
from tui_lab.core.runs.compare import Course
from tui_lab.core.runs.parting import find_parting

N_PAIRS = 60
STEPS = 400
PARTS_AT = 201


def pairs(rho: float, difference: float = 0.0) -> list[tuple[Course, Course]]:
    """Pairs of courses whose noise has a standard deviation of 0.1; from PARTS_AT on, the second is lower."""
    steps = np.arange(1, STEPS + 1)
    losses = 1 + 3 * np.exp(-steps / 100) + noise(np.random.default_rng(0), (N_PAIRS, 2, STEPS), rho, 0.1)
    losses[:, 1] += np.where(steps >= PARTS_AT, difference, 0.0)
    return [(trained(a), trained(b)) for a, b in losses]


def test_equal_runs_never_part() -> None:
    a, b = pairs(0.0)[0]
    parting = find_parting(a, a)
    assert (parting.n_common, parting.first_difference, parting.beyond_noise) == (STEPS, None, None)
    assert find_parting(a, replace_losses(a, b, 1)).first_difference == 2


def replace_losses(a: Course, b: Course, n_same: int) -> Course:
    return Course(steps=[*a.steps[:n_same], *b.steps[n_same:]])


def test_noise_alone_seldom_parts_curves() -> None:
    n_parted = sum(find_parting(*pair).beyond_noise is not None for pair in pairs(0.5))
    assert n_parted <= 0.05 * N_PAIRS


def test_true_difference_is_found_where_it_begins() -> None:
    steps = [find_parting(*pair).beyond_noise for pair in pairs(0.5, -0.2)]
    assert sum(step is not None and PARTS_AT - 5 <= step <= PARTS_AT + 60 for step in steps) >= 0.9 * N_PAIRS


def test_earlier_change_is_the_cause_where_nothing_happened_near_the_step() -> None:
    """As after a rewind: skipped rows show when they are drawn."""
    a, other = pairs(0.0, -0.5)[0]
    b = replace_losses(a, other, PARTS_AT - 1)
    b.others = [ev.Changed(step=90, key="data.skip_examples", old=[], new=list(range(20, 40)))]
    [cause] = find_parting(a, b).causes
    assert (cause.kind, cause.step) == ("change", 90) and "20–39" in cause.text


def test_rounding_of_a_rate_is_no_cause() -> None:
    a, other = pairs(0.0, -0.5)[0]
    b = replace_losses(a, other, PARTS_AT - 1)
    b.steps[:] = [replace(step, lr=float(np.float32(step.lr))) for step in b.steps]
    assert b.steps[0].lr != a.steps[0].lr
    assert not find_parting(a, b).causes


def test_curves_that_meet_again_have_parted_for_a_while() -> None:
    """One run learns 20 steps earlier, as with a larger batch."""
    steps = np.arange(1, STEPS + 1)
    levels = [2.3 / (1 + np.exp((steps - middle) / 4)) for middle in (60, 40)]
    losses = levels + noise(np.random.default_rng(0), (2, STEPS), 0.5, 0.01)
    parting = find_parting(trained(losses[0]), trained(losses[1]))
    assert parting.beyond_noise is not None and 20 <= parting.beyond_noise <= 60
    assert parting.until is not None and parting.until < 140


def test_change_and_the_rate_that_it_sets_are_the_causes() -> None:
    a, other = pairs(0.0, -0.5)[0]
    b = replace_losses(a, other, PARTS_AT - 1)
    b.steps[PARTS_AT - 2 :] = [replace(step, lr=0.1) for step in b.steps[PARTS_AT - 2 :]]
    b.others = [
        ev.Started(step=0, steps=9, parameters=1, n_vocab=2, train_examples=1, val_examples=1, device="cpu", threads=1,
                   resumed=False),
        ev.Changed(step=50, key="optim.weight_decay", old=0.0, new=0.1),
        ev.Changed(step=PARTS_AT - 2, key="optim.lr", old=0.01, new=0.1),
    ]  # fmt: skip
    parting = find_parting(a, b)
    assert parting.first_difference == PARTS_AT
    assert parting.beyond_noise is not None and PARTS_AT < parting.beyond_noise < PARTS_AT + 20
    assert [(cause.kind, cause.run, cause.step) for cause in parting.causes] == [
        ("change", 1, PARTS_AT - 2),
        ("lr", 1, PARTS_AT - 1),
    ]


def means_of(course: Course, every: int) -> Course:
    """The log of a Trainer of the same training: a mean loss for every `every` steps, with four decimals."""
    ends = range(every, len(course.steps) + 1, every)
    means = {end: sum(step.loss for step in course.steps[end - every : end]) / every for end in ends}
    logged = [replace(course.steps[end - 1], loss=round(mean, 4)) for end, mean in means.items()]
    return Course(steps=logged, has_interval_means=True)


def test_means_are_compared_with_means_of_the_same_steps() -> None:
    a, other = pairs(0.0, -0.5)[0]
    logged = means_of(a, 10)
    for parting in (find_parting(a, logged), find_parting(logged, a), find_parting(logged, means_of(a, 10))):
        assert (parting.n_common, parting.first_difference) == (STEPS // 10, None)
    parting = find_parting(replace_losses(a, other, PARTS_AT - 1), logged)
    assert parting.first_difference == PARTS_AT + 9 and parting.last_identical == PARTS_AT - 1


def test_means_of_steps_that_the_other_run_does_not_have_are_left_out() -> None:
    a, _ = pairs(0.0)[0]
    resumed = Course(steps=a.steps[95:])
    parting = find_parting(resumed, means_of(a, 10))
    assert (parting.n_common, parting.first_difference) == (30, None)
