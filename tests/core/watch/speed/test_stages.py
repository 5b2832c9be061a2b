"""What is measured in which step, with changes that change the time of the test."""

from typing import Any

import pytest
import torch

from tui_lab.core.watch.speed import stages
from tui_lab.core.watch.speed.changes import Change, Seen
from tui_lab.core.watch.speed.comparison import ratio_of
from tui_lab.core.watch.speed.stages import Plan, Size, Stages
from tui_lab.core.watch.speed.turns import TOGETHER, Block


class Speedup(Change):
    """Multiplies the speed while it is on."""

    on: dict[str, float] = {}  # noqa: RUF012 - of each test.

    def __init__(self, name: str, factor: float) -> None:
        super().__init__(name, name, f"code of {name}")
        self._factor = factor

    def turn_on(self) -> None:
        assert self.name not in self.on
        self.on[self.name] = self._factor

    def turn_off(self) -> None:
        del self.on[self.name]


class Training:
    """Steps of 0.1 s until the end of what is measured."""

    def __init__(self, changes: list[Change], monkeypatch: pytest.MonkeyPatch, plan: Plan = Plan(4.0)) -> None:  # noqa: B008
        self.records: list[dict[str, Any]] = []
        self.is_over = False
        now = 0.0
        on: dict[str, float] = {}
        monkeypatch.setattr(Speedup, "on", on)
        monkeypatch.setattr(stages, "possible_changes", lambda seen, **options: (changes, {}))
        it = Stages(plan, lambda **record: self.records.append(record), self._end, lambda: now)
        while not self.is_over:
            speed = 1.0
            for factor in on.values():
                speed *= factor
            now += 0.1 / speed
            it.step_ended(Size(n_tokens=64), has_evaluated=False)
        self.left_on = set(on)

    def _end(self) -> None:
        self.is_over = True

    def ratio(self, name: str) -> float:
        blocks = [Block(**record["block"]) for record in self.records if "block" in record]
        ratio = ratio_of(name, blocks)
        assert ratio is not None
        return ratio.median


def test_changes_that_are_faster_are_tried_together_the_best_of_each_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = [Speedup("a", 1.5), Speedup("b", 0.9), Speedup("threads=1", 1.2), Speedup("threads=4", 2.0)]
    it = Training([*changes], monkeypatch)
    (together,) = (record["together"] for record in it.records if "together" in record)
    assert together["code"] == "code of a; code of threads=4"
    assert it.ratio("a") == pytest.approx(1.5) and it.ratio("b") == pytest.approx(0.9)
    assert it.ratio(TOGETHER) == pytest.approx(3.0)
    assert it.records[-1] == {"done": True} and not it.left_on


@pytest.mark.parametrize("without", [frozenset[str](), frozenset(("a", TOGETHER))])
def test_one_change_that_is_faster_or_a_failed_try_is_not_tried_together(
    without: frozenset[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = [Speedup("c", 1.5)] if TOGETHER in without else []
    it = Training([Speedup("a", 1.5), Speedup("b", 0.9), *more], monkeypatch, Plan(4.0, without))
    assert not any("together" in record for record in it.records)
    assert {"block", "done"} <= {key for record in it.records for key in record}
    names = {record["block"]["change"] for record in it.records if "block" in record}
    assert names.isdisjoint(without)


def test_a_gpu_is_waited_for_between_the_parts_of_a_step_but_not_in_the_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[str] = []
    monkeypatch.setattr(Seen, "device", "cuda")
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: waits.append("wait"))
    monkeypatch.setattr(stages, "possible_changes", lambda seen, **options: ([], {}))
    now = 0.0
    records: list[dict[str, Any]] = []
    it = Stages(Plan(4.0), lambda **record: records.append(record), lambda: None, lambda: now)
    waits_of_enter = {"parts": 0, "turns": 0}
    while not any("done" in record for record in records):
        stage = "turns" if records else "parts"
        n_before = len(waits)
        it.phases.enter("forward")
        it.phases.enter("loop")
        waits_of_enter[stage] += len(waits) - n_before
        now += 0.1
        it.step_ended(Size(n_tokens=64), has_evaluated=False)
    assert waits_of_enter["parts"] > 0 and waits_of_enter["turns"] == 0
