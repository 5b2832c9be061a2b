"""Which sources make two runs differ: judged on simulated scripts, whose draws and seeds are known."""

from collections.abc import Callable, Collection
from dataclasses import replace

import pytest

from tests.core.watch.randomness.simulated import KINDS, OWN_GENERATOR, TIME, Simulated
from tui_lab.core.watch.randomness.sources import HASHES, NUMPY, PYTHON, TORCH
from tui_lab.core.watch.randomness.trace import Entry
from tui_lab.core.watch.randomness.traced_runs import TracedRun
from tui_lab.core.watch.randomness.verdict import KERNELS, judge


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

    def run(self, pins: Collection[str] = (), *, deterministic_kernels: bool = False) -> TracedRun:
        run = super().run(pins)
        return replace(run, entries=[*run.entries, Entry(1, "loss", "coin", str(self._sides.pop(0)))])


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
