"""Whether the runs of a script are the same, and if not, which sources of randomness make them differ.

Causes are tested, not guessed: every source that may differ gets a seed, and then all but one.
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tui_lab.core.watch.randomness.sources import HASHES, OWN, ScriptSource, SeedCall, label_of
from tui_lab.core.watch.randomness.trace import Difference, first_difference, kinds_of
from tui_lab.core.watch.randomness.traced_runs import ScriptTracer, TracedRun

KERNELS = "kernels"
"""The key of the cause where torch's deterministic kernels make two runs the same."""
STEPS = 5
"""Updates of a script in each run, unless the user asks for another number."""
OnRun = Callable[[int, str], None]
"""Gets the number of a run that begins, from 1, and what it is for."""


@dataclass(frozen=True)
class RandomnessVerdict:
    """first: the first run. n_steps: those that were compared with the second one. difference: from that one; None:
    they are the same. problem: what could not be compared, or "".

    sources: of both. changing_seeds: calls that seed a generator with another number in the second run, with both
    numbers. causes: keys of sources, of such calls, or KERNELS. remaining: what differs first in runs in which all
    sources have seeds; None: nothing, or nothing had to be tested.
    """

    first: TracedRun
    n_steps: int
    difference: Difference | None
    sources: Sequence[ScriptSource]
    problem: str = ""
    changing_seeds: Sequence[tuple[SeedCall, SeedCall]] = ()
    causes: Sequence[str] = ()
    remaining: Difference | None = None

    @property
    def compared(self) -> Sequence[str]:
        """The kinds of entries, in their order."""
        return kinds_of(self.first.entries)

    @property
    def is_reproducible(self) -> bool | None:
        """Whether the runs are the same; None if they are, as far as they could be compared."""
        return None if self.difference is None and self.problem else self.difference is None

    def to_json(self) -> dict[str, Any]:
        return {
            "reproducible": self.is_reproducible,
            "steps": self.n_steps,
            "compared": list(self.compared),
            "not_compared": self.problem,
            "error": self.first.error,
            "written_before_first_update": list(self.first.written),
            "first_difference": None if self.difference is None else self.difference.to_json(),
            "sources": [source.to_json() | {"key": source.key} for source in self.sources],
            "causes": list(self.causes),
            "remaining_difference": None if self.remaining is None else self.remaining.to_json(),
        }


def judge(tracer: ScriptTracer, on_run: OnRun = lambda number, purpose: None) -> RandomnessVerdict:
    """Run a script twice, and more often if these runs differ. Raises ConfigError if it makes no step."""
    return _Comparison(tracer, on_run).verdict()


@dataclass(frozen=True)
class _Pair:
    """Two runs in which the same sources had seeds. pins: the keys of these sources."""

    pins: Sequence[str]
    runs: tuple[TracedRun, TracedRun]

    @property
    def difference(self) -> Difference | None:
        return first_difference(self.runs[0].entries, self.runs[1].entries)


class _Comparison:
    """Runs the script and numbers its runs."""

    def __init__(self, tracer: ScriptTracer, on_run: OnRun) -> None:
        self._tracer = tracer
        self._on_run = on_run
        self._n_runs = 0

    def verdict(self) -> RandomnessVerdict:
        first = self._run("first run")
        second = self._run("second run")
        sources = _sources(first, second)
        n_steps = min(first.n_steps, second.n_steps)
        difference = first_difference(first.entries, second.entries)
        about = (first, n_steps, difference, sources, first.problem or second.problem)
        if difference is None:
            return RandomnessVerdict(*about)
        pair = self._with_seeds([source.key for source in sources if source.is_free], (first, second))
        # A seed that was drawn from a generator without one is now the same in each run.
        changing = list(_changing_seeds(*pair.runs))
        if changing:
            pair = self._with_seeds([*pair.pins, *(call.key for call, _ in changing)], pair.runs)
        causes, remaining = self._causes(pair)
        if remaining is not None and self._are_same_with_deterministic_kernels(pair.pins):
            causes = [*causes, KERNELS]
            remaining = None
        return RandomnessVerdict(*about, list(_changing_seeds(first, second)), causes, remaining)

    def _with_seeds(self, pins: Sequence[str], without: tuple[TracedRun, TracedRun]) -> "_Pair":
        """Return two runs in which the sources `pins` have seeds. without: two runs, in case there are none."""
        if not pins:
            return _Pair(pins, without)
        return _Pair(pins, (self._run("with seeds", pins), self._run("with seeds, again", pins)))

    def _causes(self, pair: "_Pair") -> tuple[list[str], Difference | None]:
        """Return those of the pinned sources that matter, and what still differs if all of them have a seed.

        A source matters if something else differs without a seed for it. What differs by chance, such as by the time,
        may look like that: so the runs with all seeds must be the same once more.
        """
        remaining = pair.difference
        causes = []
        for key in pair.pins:
            others = [other for other in pair.pins if other != key]
            run = self._run(f"with seeds but for {label_of(key)}", others)
            difference = first_difference(pair.runs[0].entries, run.entries)
            if difference is not None and (remaining is None or difference.position < remaining.position):
                causes.append(key)
        if remaining is None and pair.pins:
            once_more = self._run("with seeds, once more", pair.pins)
            remaining = first_difference(pair.runs[0].entries, once_more.entries)
            if remaining is not None:
                return [], remaining
        return causes, remaining

    def _are_same_with_deterministic_kernels(self, pins: Collection[str]) -> bool:
        """Return whether two runs with torch's deterministic kernels are the same."""
        runs = [self._run("deterministic kernels", pins, deterministic_kernels=True) for _ in range(2)]
        return first_difference(runs[0].entries, runs[1].entries) is None

    def _run(self, purpose: str, pins: Collection[str] = (), *, deterministic_kernels: bool = False) -> TracedRun:
        self._n_runs += 1
        self._on_run(self._n_runs, purpose)
        return self._tracer.run(pins, deterministic_kernels=deterministic_kernels)


def _sources(first: TracedRun, second: TracedRun) -> list[ScriptSource]:
    """Return the sources of both runs: the script's own first, and last the hashes of strings."""
    every = {source.key: source for source in (*second.sources, *first.sources)}
    ordered = sorted(every.values(), key=lambda source: source.kind != OWN)
    seed = os.environ.get("PYTHONHASHSEED", "random")
    return [*ordered, ScriptSource(HASHES, is_free=seed == "random", is_drawn=True)]


def _changing_seeds(first: TracedRun, second: TracedRun) -> Iterator[tuple[SeedCall, SeedCall]]:
    """Yield the calls at the same place that seeded a generator with different numbers."""
    others = {source.key: source for source in second.sources}
    for source in first.sources:
        other = others.get(source.key)
        for one, another in zip(source.seeds, other.seeds if other else (), strict=False):
            if one.key == another.key and one.value != another.value:
                yield one, another
