"""How the processes of a script agree on the optimizer step after which all of them make a change.

They talk through the key-value store of torch.distributed, and wait for each other only while a change is proposed:

1. The first process proposes a change.
2. Each of the others, when it sees the proposal, answers with the number of its optimizer steps, and continues for a
   few steps, a window. Then it waits for the decision.
3. When all have answered, the first process decides: after the step that ends the latest window, which none can have
   passed. All make the change there.

A process that waits too long cancels the proposal. Decision and cancellation are one value, written only once, so that
all read the same.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # Some builds of torch have no distributed part.
    from torch.distributed.distributed_c10d import Store

STEPS_BEFORE_PACE = 10
"""Optimizer steps after which the first process knows how long a step takes."""
MAX_COST = 0.01
"""Of the time of a step, for looking into the store."""
MAX_EVERY = 64
"""Steps between two looks."""
LOOKS_TO_MEASURE = 5
SECONDS_TO_WAIT = 10.0
"""For a decision, until a process cancels the proposal."""
SECONDS_TO_ANSWER = 30.0
"""For all answers, until the first process cancels its proposal; two windows of steps at least."""
SECONDS_BETWEEN_LOOKS = 0.002
MAX_PROPOSALS = 3
"""Of the same change, before it is given up."""
_PACE = "every"


@dataclass(frozen=True)
class SettingChange:
    """A setting and its new value; None: the script's own."""

    key: str
    value: float | None


@dataclass(frozen=True)
class _Outcome:
    """The change that all make after `step` optimizer steps; None: the proposal is canceled."""

    step: int
    change: SettingChange | None

    def to_json(self) -> str:
        change = None if self.change is None else [self.change.key, self.change.value]
        return json.dumps([self.step, change])

    @classmethod
    def from_json(cls, text: str | bytes) -> "_Outcome":
        step, change = json.loads(text)
        return cls(step, None if change is None else SettingChange(*change))


def _settle(store: "Store", number: int, outcome: _Outcome) -> _Outcome:
    """Write the outcome of a proposal unless there is one; return the one that counts."""
    return _Outcome.from_json(store.compare_set(f"outcome/{number}", "", outcome.to_json()))


def _window(every: int) -> int:
    """Return the steps that a process makes after its answer.

    A process that looks every `every` steps has looked by then, also if it is one step behind.
    """
    return every + 1


class Leader:
    """The first process: it proposes one change after the other. Every method may raise what the store raises."""

    def __init__(self, store: "Store", n_processes: int, now: Callable[[], float] = time.perf_counter) -> None:
        self._store = store
        self._others = range(1, n_processes)
        self._now = now
        self._n_steps = 0
        self._every = 0
        self._began = 0.0
        self._pace_set_at = 0.0
        self._change: SettingChange | None = None
        self._number = 0
        self._n_proposals = 0
        self._proposed_at = 0.0
        self._proposed_after = 0
        self._is_proposed = False
        self._decided_step: int | None = None

    @property
    def knows_pace(self) -> bool:
        """Whether it is set how often the others look for proposals."""
        return self._every > 0

    @property
    def is_idle(self) -> bool:
        """Whether no change is proposed."""
        return self._change is None

    def absent(self) -> list[int]:
        """Return the processes that do not look for proposals, or not yet."""
        return [rank for rank in self._others if not self._store.check([f"follows/{rank}"])]

    def has_waited(self) -> bool:
        """Return whether the others have had time to begin to look for proposals, since the pace is known."""
        return self._now() - self._pace_set_at > SECONDS_TO_WAIT

    def propose(self, change: SettingChange) -> None:
        """Propose a change; the proposal before must have ended."""
        self._change = change
        self._n_proposals = 0
        self._propose()

    def stepped(self) -> SettingChange | None:
        """Count an optimizer step; return the change that is to be made after it, if there is one."""
        self._n_steps += 1
        if not self._every:
            self._set_pace()
        if self._is_proposed and self._decided_step is None:
            self._decide()
        if self._decided_step != self._n_steps:
            return None
        change = self._change
        self._change = None
        self._is_proposed = False
        self._decided_step = None
        return change

    def was_given_up(self) -> bool:
        """Whether the proposed change was canceled as often as it may be; if so, it is dropped."""
        if self._change is None or self._is_proposed:
            return False
        self._change = None
        return True

    def _set_pace(self) -> None:
        if self._n_steps == 1:
            self._began = self._now()
        elif self._n_steps > STEPS_BEFORE_PACE:
            step_seconds = (self._now() - self._began) / (self._n_steps - 1)
            look_seconds = min(self._look_seconds() for _ in range(LOOKS_TO_MEASURE))
            every = math.ceil(look_seconds / max(MAX_COST * step_seconds, 1e-9))
            self._every = min(max(every, 1), MAX_EVERY)
            self._store.set(_PACE, str(self._every))
            self._pace_set_at = self._now()

    def _look_seconds(self) -> float:
        began = self._now()
        self._store.check([_PACE])
        return self._now() - began

    def _propose(self) -> None:
        """Propose the change, for the first time or again."""
        self._is_proposed = self._n_proposals < MAX_PROPOSALS
        if self._is_proposed:
            self._n_proposals += 1
            self._number += 1
            self._proposed_at = self._now()
            self._proposed_after = self._n_steps
            self._store.set(f"proposal/{self._number}", "")

    def _decide(self) -> None:
        answers = [f"answer/{self._number}/{rank}" for rank in self._others]
        if self._store.check(answers):
            steps = [int(self._store.get(answer)) for answer in answers]
            step = max(self._n_steps, max(steps) + _window(self._every))
            self._accept(_settle(self._store, self._number, _Outcome(step, self._change)))
        elif self._is_too_late():
            self._accept(_settle(self._store, self._number, _Outcome(0, None)))

    def _is_too_late(self) -> bool:
        n_steps = self._n_steps - self._proposed_after
        return n_steps >= 2 * _window(self._every) and self._now() - self._proposed_at > SECONDS_TO_ANSWER

    def _accept(self, outcome: _Outcome) -> None:
        if outcome.change is None:
            self._propose()
        else:
            self._decided_step = outcome.step


class Follower:
    """Another process. Every method may raise what the store raises."""

    def __init__(
        self,
        store: "Store",
        rank: int,
        now: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._store = store
        self._rank = rank
        self._n_steps = 0
        self._now = now
        self._sleep = sleep
        self._every = 0
        self._number = 1
        """Of the proposal that it looks for, or has answered."""
        self._answered_at: int | None = None
        self._outcome: _Outcome | None = None

    def stepped(self) -> SettingChange | None:
        """Count an optimizer step; return the change that is to be made after it, if there is one. May wait."""
        self._n_steps += 1
        if not self._every:
            self._read_pace()
            return None
        if self._answered_at is None:
            self._answer()
        elif self._outcome is None and self._n_steps >= self._answered_at + _window(self._every):
            self._outcome = self._wait()
            if self._outcome.change is None:
                self._next_proposal()
        if self._outcome is None or self._outcome.step != self._n_steps:
            return None
        change = self._outcome.change
        self._next_proposal()
        return change

    def _read_pace(self) -> None:
        if self._store.check([_PACE]):
            self._every = int(self._store.get(_PACE))
            self._store.set(f"follows/{self._rank}", "")

    def _answer(self) -> None:
        if self._n_steps % self._every == 0 and self._store.check([f"proposal/{self._number}"]):
            self._answered_at = self._n_steps
            self._store.set(f"answer/{self._number}/{self._rank}", str(self._n_steps))

    def _wait(self) -> _Outcome:
        """Wait for the decision. It is there already, unless this process is ahead of others."""
        key = f"outcome/{self._number}"
        began = self._now()
        while not self._store.check([key]):
            if self._now() - began > SECONDS_TO_WAIT:
                return _settle(self._store, self._number, _Outcome(0, None))
            self._sleep(SECONDS_BETWEEN_LOOKS)
        return _Outcome.from_json(self._store.get(key))

    def _next_proposal(self) -> None:
        self._number += 1
        self._answered_at = None
        self._outcome = None
