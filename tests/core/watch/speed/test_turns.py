"""Which change each step has, and how much faster the blocks of a change are, with times that the test makes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tui_lab.core.watch.speed.comparison import Ratio, ratio_of
from tui_lab.core.watch.speed.turns import AS_IT_IS, MAX_ROUNDS, MIN_ROUNDS, Block, Turns


class Simulated:
    """Steps whose seconds are those of the change that is on. evaluates: the numbers of the steps that evaluate."""

    def __init__(
        self, seconds: dict[str, float], budget: float = 10.0, evaluates: frozenset[int] = frozenset()
    ) -> None:
        changes = {name: 2 for name in seconds if name != AS_IT_IS}
        self.turns = Turns(changes, budget, seconds[AS_IT_IS], 0.0)
        self.steps: list[str] = []
        self.blocks: list[Block] = []
        now = 0.0
        while not self.turns.is_over and len(self.steps) < 20_000:
            current = self.turns.current
            has_evaluated = len(self.steps) in evaluates
            self.steps.append(current)
            now += seconds[current] + 100 * has_evaluated
            block = self.turns.step_ended(now, 32, has_evaluated=has_evaluated)
            self.blocks += [] if block is None else [block]
        self.seconds = now


@given(
    st.dictionaries(st.sampled_from(["a", "b", "c"]), st.floats(0.06, 0.18), max_size=3),
    st.floats(0.1, 60.0),
)
def test_each_change_has_a_block_between_two_as_it_is_in_every_round(changes: dict[str, float], budget: float) -> None:
    it = Simulated({AS_IT_IS: 0.1, **changes}, budget)
    assert it.turns.is_over
    names = [block.change for block in it.blocks]
    n_rounds = it.blocks[-1].round
    assert names == [AS_IT_IS, *changes] * n_rounds + [AS_IT_IS]
    assert n_rounds <= MAX_ROUNDS and (n_rounds >= min(MIN_ROUNDS, len(changes)) or it.seconds >= budget)
    for name, seconds in changes.items():
        ratio = ratio_of(name, it.blocks)
        assert ratio is not None and ratio.n_rounds == n_rounds
        assert ratio.median == pytest.approx(0.1 / seconds) == pytest.approx(ratio.low) == pytest.approx(ratio.high)


def test_change_that_is_far_too_slow_is_left_after_its_first_step_that_counts() -> None:
    it = Simulated({AS_IT_IS: 0.01, "slow": 1.0, "fast": 0.005})
    assert it.steps.count("slow") == 3  # Two to get to full speed, and one.
    ratio = ratio_of("slow", it.blocks)
    assert ratio is not None and ratio.effect == "slower" and ratio.n_rounds == 1
    other = ratio_of("fast", it.blocks)
    assert other is not None and other.effect == "faster" and other.n_rounds >= MIN_ROUNDS


def test_block_in_which_the_script_evaluates_is_made_again() -> None:
    it = Simulated({AS_IT_IS: 0.1, "a": 0.05}, evaluates=frozenset(range(5, 2000, 37)))
    ratio = ratio_of("a", it.blocks)
    assert ratio is not None and ratio.low == pytest.approx(2.0) == pytest.approx(ratio.high)


def test_script_that_evaluates_at_every_step_is_measured_with_its_evaluations() -> None:
    it = Simulated({AS_IT_IS: 0.1, "a": 0.05}, evaluates=frozenset(range(20_000)))
    assert it.turns.is_over and ratio_of("a", it.blocks) is not None


def test_time_until_a_change_is_at_full_speed_takes_no_rounds_away() -> None:
    turns = Turns({"compile": 2}, 4.0, 0.1, 0.0)
    now = 0.0
    n_on = 0
    while not turns.is_over:
        n_on += turns.current == "compile"
        now += 1000.0 if turns.current == "compile" and n_on == 1 else 0.1
        block = turns.step_ended(now, 1, has_evaluated=False)
    assert block is not None and block.round >= MIN_ROUNDS


def test_long_steps_are_all_counted_after_the_first_round() -> None:
    turns = Turns({"a": 1}, 1e9, 5.0, 0.0)
    planned = turns.least_steps
    now = 0.0
    n_steps = 0
    while True:
        now += 5.0
        n_steps += 1
        block = turns.step_ended(now, 1, has_evaluated=False)
        if block is not None:
            assert block.seconds == 5.0 and block.n_steps == 1
            if block.round == MIN_ROUNDS:
                break
    assert n_steps == planned == 2 + 2 * MIN_ROUNDS + 1


def test_change_that_was_not_tried_again_is_slower() -> None:
    dropped = [*blocks([0.7]), Block(AS_IT_IS, 2, 2, 1.0)]
    ratio = ratio_of("a", dropped)
    assert ratio is not None and ratio.effect == "slower"


def blocks(ratios: list[float]) -> list[Block]:
    """Return blocks of a change that is so many times as fast in each round."""
    made = [Block(AS_IT_IS, 0, 2, 1.0)]
    for number, ratio in enumerate(ratios):
        made += [Block("a", number, 2, 1.0 / ratio), Block(AS_IT_IS, number + 1, 2, 1.0)]
    return made


@pytest.mark.parametrize(
    ("ratios", "effect"),
    [
        ([1.1] * 5, "faster"),
        ([0.9] * 5, "slower"),
        ([1.01] * 9, "none"),
        ([1.1] * 4, "unclear"),
        ([1.1, 1.1, 1.2, 0.8, 1.1], "unclear"),
        ([1.001, 0.99, 1.0, 1.01], "none"),
        ([2.0, 3.0], "faster"),
        ([0.5, 0.7], "slower"),
        ([0.4], "slower"),
        ([0.8], "unclear"),
    ],
)
def test_effect_is_shown_by_enough_rounds_that_agree(ratios: list[float], effect: str) -> None:
    ratio = ratio_of("a", blocks(ratios))
    assert isinstance(ratio, Ratio) and ratio.effect == effect


def test_change_without_a_block_has_no_ratio() -> None:
    assert ratio_of("b", blocks([1.0])) is None
