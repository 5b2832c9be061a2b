"""Which sources make two runs differ: judged on simulated scripts, whose draws and seeds are known."""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.core.watch.randomness.simulated import KINDS, OWN_GENERATOR, TIME, Simulated
from tui_lab.core.watch.randomness.sources import HASHES, NUMPY, OTHER_SEED, PINNED_SEED, PYTHON, TORCH
from tui_lab.core.watch.randomness.trace import Entry
from tui_lab.core.watch.randomness.traced_runs import TracedRun
from tui_lab.core.watch.randomness.verdict import KERNELS, judge
from tui_lab.util.errors import ConfigError


@pytest.fixture(autouse=True)
def no_hash_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONHASHSEED", raising=False)


def judged(script: Simulated) -> tuple[str | None, list[str], str | None]:
    """Return the kind of the first difference, the causes, and the kind of the one that remains."""
    verdict = judge(script)  # type: ignore[arg-type]
    first, last = (None if each is None else each.kind for each in (verdict.difference, verdict.remaining))
    return first, list(verdict.causes), last


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (lambda: Simulated(fixed=[TORCH], weights=[TORCH]), (None, [], None)),
        (lambda: Simulated(weights=[TORCH]), ("weights", [TORCH], None)),
        (lambda: Simulated(fixed=[TORCH], weights=[TORCH], batch=[PYTHON]), ("batch", [PYTHON], None)),
        (lambda: Simulated(batch=[HASHES]), ("batch", [HASHES], None)),
        (lambda: Simulated(weights=[TORCH], batch=[NUMPY], loss=[TORCH]), ("weights", [NUMPY, TORCH], None)),
        (lambda: Simulated(batch=[OWN_GENERATOR.key, PYTHON]), ("batch", [OWN_GENERATOR.key, PYTHON], None)),
        (lambda: Simulated(weights=[TIME]), ("weights", [TIME], None)),
        (lambda: Simulated(weights=[PYTHON, "from python"]), ("weights", [PYTHON], None)),
        (lambda: Simulated(gradient=[KERNELS]), ("gradient", [KERNELS], None)),
        (lambda: Simulated(weights=[TORCH], gradient=[KERNELS]), ("weights", [TORCH, KERNELS], None)),
        (lambda: Simulated(loss=["clock"]), ("loss", [], "loss")),
        (lambda: Simulated(weights=[TORCH], loss=["clock"]), ("weights", [TORCH], "loss")),
    ],
)
def test_causes_are_exactly_the_sources_that_decide_something(
    script: Callable[[], Simulated], expected: tuple[str | None, list[str], str | None]
) -> None:
    assert judged(script()) == expected


class Coin(Simulated):
    """Draws one of two numbers from the system, which are given for all runs in their order."""

    def __init__(self, *sides: int) -> None:
        super().__init__()
        self._sides = list(sides)

    def run(self, pins: Mapping[str, int] | None = None, *, deterministic_kernels: bool = False) -> TracedRun:
        run = super().run(pins)
        return replace(run, entries=[*run.entries, Entry(1, "loss", "coin", str(self._sides.pop(0)))])


class Chooses(Simulated):
    """Chooses one of two things by a source: by its number in each run without a seed, and by its seed otherwise."""

    def __init__(self, key: str, *, first_sides: Sequence[int], side_of_seed: Mapping[int, int]) -> None:
        super().__init__(fixed=[TORCH], weights=[TORCH], batch=[] if key == HASHES else [key])
        self._key = key
        self._first_sides = list(first_sides)
        self._side_of_seed = side_of_seed

    def run(self, pins: Mapping[str, int] | None = None, *, deterministic_kernels: bool = False) -> TracedRun:
        run = super().run(pins)
        pinned = (pins or {}).get(self._key)
        side = self._first_sides.pop(0) if pinned is None else self._side_of_seed[pinned]
        return replace(run, entries=[Entry(1, "batch", "side", str(side))])


@pytest.mark.parametrize("sides", [{PINNED_SEED: 0, OTHER_SEED: 1}, {PINNED_SEED: 1, OTHER_SEED: 0}])
@pytest.mark.parametrize("key", [PYTHON, OWN_GENERATOR.key, TIME])
def test_runs_that_are_the_same_by_chance_are_not_called_reproducible(key: str, sides: Mapping[int, int]) -> None:
    verdict = judge(Chooses(key, first_sides=[0] * 9, side_of_seed=sides))  # type: ignore[arg-type]
    assert verdict.is_reproducible is False and list(verdict.causes) == [key] and verdict.remaining is None


def test_a_source_whose_two_seeds_decide_the_same_is_tested_without_one() -> None:
    sides = {PINNED_SEED: 0, OTHER_SEED: 0}
    verdict = judge(Chooses(HASHES, first_sides=[0, 1, 0, 1], side_of_seed=sides))  # type: ignore[arg-type]
    assert list(verdict.causes) == [HASHES] and verdict.remaining is None


def test_a_source_without_a_seed_has_no_effect_only_after_four_runs() -> None:
    script = Chooses(PYTHON, first_sides=[0, 0], side_of_seed={PINNED_SEED: 0, OTHER_SEED: 0})
    verdict = judge(script)  # type: ignore[arg-type]
    assert (verdict.is_reproducible, verdict.n_runs, len(script.pins)) == (True, 4, 4)


@pytest.mark.parametrize("seed", [PINNED_SEED, OTHER_SEED])
def test_a_coin_of_each_generator_falls_on_both_sides_with_the_two_seeds(seed: int) -> None:
    torch_draw = torch.rand(1, generator=torch.Generator().manual_seed(seed)).item()
    draws = (random.Random(seed).random(), np.random.RandomState(seed).rand(), np.random.default_rng(seed).random())
    is_low = [draw < 0.5 for draw in (*draws, torch_draw)]
    assert is_low == [(seed == PINNED_SEED) == is_low_with_0 for is_low_with_0 in (False, False, False, True)]


def test_what_differs_by_chance_is_not_called_a_cause() -> None:
    verdict = judge(Coin(0, 1, 0, 0, 1, 1, 1, 0))  # type: ignore[arg-type]
    assert verdict.difference is not None and verdict.remaining is not None and verdict.causes == []


def test_a_script_whose_runs_are_the_same_runs_twice() -> None:
    script = Simulated(fixed=[TORCH], weights=[TORCH])
    judge(script)  # type: ignore[arg-type]
    assert script.pins == [frozenset(), frozenset()]


def test_runs_that_are_not_compared_in_full_are_not_called_the_same() -> None:
    same = judge(Simulated(problem="loss: RuntimeError"))  # type: ignore[arg-type]
    different = judge(Simulated(problem="loss: RuntimeError", batch=[PYTHON]))  # type: ignore[arg-type]
    assert (same.is_reproducible, different.is_reproducible) == (None, False)
    assert tuple(same.compared) == KINDS


def test_a_seed_with_which_a_script_makes_no_step_is_a_difference_and_no_error() -> None:
    class Asserting(Simulated):
        def run(self, pins: Mapping[str, int] | None = None, *, deterministic_kernels: bool = False) -> TracedRun:
            run = super().run(pins)
            if (pins or {}).get(PYTHON) == OTHER_SEED:
                raise ConfigError.of("user_code", "AssertionError", value="train.py")
            return replace(run, entries=[Entry(1, "update", "w", "0")])

    verdict = judge(Asserting(batch=[PYTHON]))  # type: ignore[arg-type]
    assert verdict.is_reproducible is False and list(verdict.causes) == [PYTHON] and "AssertionError" in verdict.error


def test_runs_of_a_script_that_failed_are_not_called_reproducible() -> None:
    class Failing(Simulated):
        def run(self, pins: Mapping[str, int] | None = None, *, deterministic_kernels: bool = False) -> TracedRun:
            return replace(super().run(pins), error="ValueError: boom")

    verdict = judge(Failing(fixed=[TORCH], weights=[TORCH]))  # type: ignore[arg-type]
    assert verdict.is_reproducible is None and verdict.to_json()["error"] == "ValueError: boom"


def test_a_hash_seed_of_the_user_is_no_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "3")
    script = Simulated(batch=[PYTHON])
    assert judged(script) == ("batch", [PYTHON], None)
    assert all(HASHES not in pins for pins in script.pins)


def test_json_has_every_part_of_a_verdict() -> None:
    record = judge(Simulated(weights=[TORCH], loss=["clock"])).to_json()  # type: ignore[arg-type]
    assert (record["reproducible"], record["steps"], record["causes"]) == (False, 1, [TORCH])
    assert record["first_difference"]["kind"] == "weights" and record["remaining_difference"]["kind"] == "loss"
    assert [source["key"] for source in record["sources"]] == [PYTHON, NUMPY, TORCH, HASHES]
