"""Whether the runs of a script are the same, and if not, which sources of randomness make them differ.

Causes are tested, not guessed: every source that may differ gets a seed, and then one of them gets another one. Two
runs may be the same by chance, where a script only chooses between two things: so sources without a seed are tested
then as well.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tui_lab.core.watch.randomness.sources import (
    HASH_SEED,
    HASHES,
    OTHER_SEED,
    OWN,
    PINNED_SEED,
    ScriptSource,
    SeedCall,
    label_of,
)
from tui_lab.core.watch.randomness.trace import Difference, first_difference, kinds_of
from tui_lab.core.watch.randomness.traced_runs import ScriptTracer, TracedRun
from tui_lab.util.errors import ConfigError

KERNELS = "kernels"
"""The key of the cause where torch's deterministic kernels make two runs the same."""
STEPS = 5
"""Updates of a script in each run, unless the user asks for another number."""
FIRST_RUNS = 2
WITH_OTHER_SEEDS = "with a seed for what has none"
"""What the runs are for that are made where the first two are the same."""
SEEDS_TO_TRY = (OTHER_SEED, None, None, None)
"""For each source that may be a cause, in turn, until one is: none is a new one each time. The order of two strings in
a set is the same with every other seed."""
OnRun = Callable[[int, str], None]
"""Gets the number of a run that begins, from 1, and what it is for."""


@dataclass(frozen=True)
class RandomnessVerdict:
    """first: the first run. n_steps: those that were compared in each run. n_runs: that were compared: two, or more
    where these were the same but drew from sources without a seed. difference: of the first run and another one; None:
    they are all the same. problem: what could not be compared, or "". error: that ended one of them, or "".

    sources: of the first two runs. changing_seeds: calls that seed a generator with another number in the second run,
    with both numbers. causes: keys of sources, of such calls, or KERNELS. remaining: what differs first in runs in
    which all sources have seeds; None: nothing, or nothing had to be tested.
    """

    first: TracedRun
    n_steps: int
    difference: Difference | None
    sources: Sequence[ScriptSource]
    problem: str = ""
    error: str = ""
    n_runs: int = FIRST_RUNS
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
        if self.difference is not None:
            return False
        return None if self.problem or self.error else True

    def to_json(self) -> dict[str, Any]:
        return {
            "reproducible": self.is_reproducible,
            "steps": self.n_steps,
            "runs_compared": self.n_runs,
            "compared": list(self.compared),
            "not_compared": self.problem,
            "error": self.error,
            "written_before_first_update": list(self.first.written),
            "changed_before_first_update": list(self.first.changed),
            "first_difference": None if self.difference is None else self.difference.to_json(),
            "sources": [source.to_json() | {"key": source.key} for source in self.sources],
            "causes": list(self.causes),
            "remaining_difference": None if self.remaining is None else self.remaining.to_json(),
        }


def judge(tracer: ScriptTracer, on_run: OnRun = lambda number, purpose: None) -> RandomnessVerdict:
    """Run a script twice, and more often if these runs differ or draw from a source without a seed.

    Raises ConfigError if it makes no step.
    """
    return _Comparison(tracer, on_run).verdict()


@dataclass(frozen=True)
class _Pair:
    """Two runs in which the same sources had the same seeds. pins: the keys of these sources."""

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
        changing = list(_changing_seeds(first, second))
        compared = [first, second]
        difference = first_difference(first.entries, second.entries)
        if difference is None:
            for run in self._with_other_seeds(_untested(sources, changing)):
                compared.append(run)
                difference = first_difference(first.entries, run.entries)
                if difference is not None:
                    break
        verdict = RandomnessVerdict(
            first,
            min(run.n_steps for run in compared),
            difference,
            sources,
            next((run.problem for run in compared if run.problem), ""),
            next((run.error for run in compared if run.error), ""),
            len(compared),
            changing,
        )
        if difference is None:
            return verdict
        causes, remaining = self._explained(first, second, sources)
        return replace(verdict, causes=causes, remaining=remaining)

    def _with_other_seeds(self, keys: Sequence[str]) -> Iterator[TracedRun]:
        """Yield runs in which sources without a seed get one, another one in each run."""
        if keys:
            for seed in (PINNED_SEED, OTHER_SEED):
                yield self._run(WITH_OTHER_SEEDS, dict.fromkeys(keys, seed))

    def _explained(
        self, first: TracedRun, second: TracedRun, sources: Iterable[ScriptSource]
    ) -> tuple[list[str], Difference | None]:
        """Return the causes of a difference, and what still differs if all sources have a seed."""
        pair = self._with_seeds([source.key for source in sources if source.is_free], (first, second))
        # A seed that was drawn from a generator without one is now the same in each run.
        changing = list(_changing_seeds(*pair.runs))
        if changing:
            pair = self._with_seeds([*pair.pins, *(call.key for call, _ in changing)], pair.runs)
        causes, remaining = self._causes(pair)
        if remaining is not None and self._are_same_with_deterministic_kernels(_pinned(pair.pins)):
            return [*causes, KERNELS], None
        return causes, remaining

    def _with_seeds(self, pins: Sequence[str], without: tuple[TracedRun, TracedRun]) -> "_Pair":
        """Return two runs in which the sources `pins` have seeds. without: two runs, in case there are none."""
        if not pins:
            return _Pair(pins, without)
        return _Pair(pins, (self._run("with seeds", _pinned(pins)), self._run("with seeds, again", _pinned(pins))))

    def _causes(self, pair: "_Pair") -> tuple[list[str], Difference | None]:
        """Return those of the pinned sources that matter, and what still differs if all of them have a seed.

        A source matters if something else differs with another seed for it. What differs by chance, such as by the
        time, may look like that: so the runs with all seeds must be the same once more.
        """
        remaining = pair.difference
        causes: list[str] = []
        for seed in SEEDS_TO_TRY:
            causes = [key for key in pair.pins if self._matters(key, seed, pair)]
            if causes or remaining is not None:
                break
        if remaining is None and pair.pins:
            once_more = self._run("with seeds, once more", _pinned(pair.pins))
            remaining = first_difference(pair.runs[0].entries, once_more.entries)
            if remaining is not None:
                return [], remaining
        return causes, remaining

    def _matters(self, key: str, seed: int | None, pair: "_Pair") -> bool:
        """Return whether something else differs, or earlier, with another seed for a source. seed: None for none."""
        seeds = _pinned(pair.pins)
        del seeds[key]
        if seed is None:
            run = self._run(f"with seeds but for {label_of(key)}", seeds)
        else:
            run = self._run(f"another seed for {label_of(key)}", seeds | {key: seed})
        difference = first_difference(pair.runs[0].entries, run.entries)
        remaining = pair.difference
        return difference is not None and (remaining is None or difference.position < remaining.position)

    def _are_same_with_deterministic_kernels(self, pins: Mapping[str, int]) -> bool:
        """Return whether two runs with torch's deterministic kernels are the same."""
        runs = [self._run("deterministic kernels", pins, deterministic_kernels=True) for _ in range(2)]
        return first_difference(runs[0].entries, runs[1].entries) is None

    def _run(
        self, purpose: str, pins: Mapping[str, int] | None = None, *, deterministic_kernels: bool = False
    ) -> TracedRun:
        self._n_runs += 1
        self._on_run(self._n_runs, purpose)
        try:
            return self._tracer.run(pins, deterministic_kernels=deterministic_kernels)
        except ConfigError as error:
            if self._n_runs <= FIRST_RUNS:
                raise
            return TracedRun([], [], error=str(error))  # By a seed: without it, the script has made steps.


def _pinned(keys: Iterable[str]) -> dict[str, int]:
    return dict.fromkeys(keys, PINNED_SEED)


def _untested(sources: Iterable[ScriptSource], changing: Iterable[tuple[SeedCall, SeedCall]]) -> list[str]:
    """Return the keys of what may make further runs differ although two were the same.

    It is empty if only the hashes of strings have no seed: almost every script would run twice as often for them, and
    the order of a set of more than a few strings is hardly ever the same twice.
    """
    free = [source.key for source in sources if source.is_free and source.is_drawn]
    keys = [*free, *dict.fromkeys(call.key for call, _ in changing)]
    return [] if keys == [HASHES] else keys


def _sources(first: TracedRun, second: TracedRun) -> list[ScriptSource]:
    """Return the sources of both runs: the script's own first, and last the hashes of strings."""
    every = {source.key: source for source in (*second.sources, *first.sources)}
    ordered = sorted(every.values(), key=lambda source: source.kind != OWN)
    seed = os.environ.get(HASH_SEED, "random")
    return [*ordered, ScriptSource(HASHES, is_free=seed == "random", is_drawn=True)]


def _changing_seeds(first: TracedRun, second: TracedRun) -> Iterator[tuple[SeedCall, SeedCall]]:
    """Yield the calls at the same place that seeded a generator with different numbers."""
    others = {source.key: source for source in second.sources}
    for source in first.sources:
        other = others.get(source.key)
        for one, another in zip(source.seeds, other.seeds if other else (), strict=False):
            if one.key == another.key and one.value != another.value:
                yield one, another
