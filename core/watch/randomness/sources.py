"""The sources of random numbers of a script: which there are, how they are seeded, and how to pin them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PYTHON = "python"
NUMPY = "numpy"
TORCH = "torch"
HASHES = "hashes"
"""Those of strings, which decide the order of a set. Python draws them for each process."""
HASH_SEED = "PYTHONHASHSEED"
"""The environment variable with their seed."""
PINNED_SEED = 0
OTHER_SEED = 366
"""In place of PINNED_SEED, to see whether a seed matters. With one of both, the first number below 1 of each generator
(random, np.random, np.random.default_rng, torch) is less than one half, and with the other it is not, so that a script
that decides something by a coin decides it both ways."""
OWN = "own"
"""The kind of a generator that the script makes itself."""
SEED_CALL = "seed"
"""The kind of a call that seeds a generator with another number in each run."""
NAMES = {PYTHON: "Python's random", NUMPY: "numpy", TORCH: "torch", HASHES: "hashes of strings"}


def label_of(key: str) -> str:
    """Return how a source or a call that seeds one is called, from its key."""
    if key in NAMES:
        return NAMES[key]
    _, call, place = key.split(":", 2)
    return f"{call} in {place}"


@dataclass(frozen=True)
class SeedCall:
    """A call that seeds one of the global generators. call: its name. place: file and line, of the user's code.

    is_given: whether its code gives the value, which the system drew otherwise.
    """

    call: str
    place: str
    value: str
    is_given: bool = True

    @property
    def key(self) -> str:
        """What names the call in both runs."""
        return f"{SEED_CALL}:{self.call}:{self.place}"


@dataclass
class ScriptSource:
    """A generator of a script.

    kind: one of NAMES, or OWN. place: of the code that makes it, if it is OWN; call: that code. seeds: in their order.
    is_free: whether numbers were drawn from it before it had a seed. is_drawn: whether any were.
    """

    kind: str
    place: str = ""
    call: str = ""
    seeds: tuple[SeedCall, ...] = ()
    is_free: bool = False
    is_drawn: bool = False

    @property
    def key(self) -> str:
        """What names the source in all runs, and pins it."""
        return f"{OWN}:{self.call}:{self.place}" if self.kind == OWN else self.kind

    def seeded(self, call: SeedCall) -> None:
        """Add a call that seeds it, unless it is there."""
        if call not in self.seeds:
            self.seeds = (*self.seeds, call)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> "ScriptSource":
        """Return a source from its JSON."""
        seeds = tuple(SeedCall(**seed) for seed in record["seeds"])
        return cls(**{**record, "seeds": seeds})
