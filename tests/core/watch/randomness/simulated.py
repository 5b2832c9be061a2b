"""Scripts that are not run: what they draw and how they are seeded is given."""

import itertools
from collections.abc import Collection, Mapping, Sequence

from tui_lab.core.watch.randomness.sources import HASHES, NUMPY, OWN, PYTHON, TORCH, ScriptSource, SeedCall
from tui_lab.core.watch.randomness.trace import Entry, Kind
from tui_lab.core.watch.randomness.traced_runs import TracedRun
from tui_lab.core.watch.randomness.verdict import KERNELS

OWN_GENERATOR = ScriptSource(OWN, "data.py, line 3", "np.random.default_rng()", is_free=True, is_drawn=True)
TIME = "seed:torch.manual_seed:train.py, line 1"
KINDS: tuple[Kind, ...] = ("weights", "batch", "loss", "gradient", "setting", "update")


class Simulated:
    """Takes the place of a ScriptTracer. Each kind of entry is a function of numbers that some sources draw.

    reads: the sources that decide each kind. fixed: those that have a constant seed. problem: what is not traced.
    """

    def __init__(self, fixed: Collection[str] = (), problem: str = "", **reads: Sequence[str]) -> None:
        self._problem = problem
        self._reads = reads
        self._fixed = fixed
        self._numbers = itertools.count(1)
        self.pins: list[frozenset[str]] = []

    def run(self, pins: Mapping[str, int] | None = None, *, deterministic_kernels: bool = False) -> TracedRun:
        self.pins.append(frozenset(pins or ()))
        constant = {*self._fixed, *([KERNELS] if deterministic_kernels else [])}

        def drawn(key: str) -> int:
            if key in constant:
                return 0
            return -pins[key] if pins and key in pins else next(self._numbers)

        python = drawn(PYTHON)
        numbers = {key: drawn(key) for key in (NUMPY, TORCH, HASHES, KERNELS, OWN_GENERATOR.key, "clock")}
        numbers |= {PYTHON: python, "from python": python, TIME: drawn(TIME)}
        entries = [
            Entry(1, kind, kind, " ".join(str(numbers[key]) for key in self._reads.get(kind, ()))) for kind in KINDS
        ]
        used = {key for keys in self._reads.values() for key in keys}
        sources = [
            ScriptSource(kind, is_free=kind in used and kind not in self._fixed, is_drawn=kind in used)
            for kind in (PYTHON, NUMPY, TORCH)
        ]
        if TIME in used or "from python" in used:
            value = numbers[TIME] if TIME in used else python
            sources[2].seeds = (SeedCall("torch.manual_seed", "train.py, line 1", str(value)),)
        if OWN_GENERATOR.key in used:
            sources.append(OWN_GENERATOR)
        return TracedRun(entries, sources, self._problem)
