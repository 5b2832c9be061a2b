"""The parts in the order in which they run, and how long each may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PartInfo:
    """function: "module:function" in this package. seconds: the time limit on a GPU.

    worker: parts with the same name run in one process, one after the other. deterministic: of that process.
    """

    name: str
    function: str
    seconds: float
    worker: str


DETERMINISTIC = ("checks",)
"""Workers that use deterministic algorithms: without them a resumed run cannot be bit-exact on a GPU."""
PARTS = (
    PartInfo("machine", "speed:machine_facts", 40, "speed"),
    PartInfo("pseudo-socrates", "speed:pseudo_socrates", 60, "speed"),
    PartInfo("GPT-2 124M shape", "speed:gpt2", 90, "speed"),
    PartInfo("model", "checks:model", 30, "checks"),
    PartInfo("loss", "checks:loss", 20, "checks"),
    PartInfo("precision", "checks:precision", 40, "checks"),
    PartInfo("generation", "checks:generation", 25, "checks"),
    PartInfo("resume", "resume:resume", 40, "checks"),
    PartInfo("late reading", "late:late_reading", 50, "checks"),
    PartInfo("compiled", "compiled:compiled", 60, "checks"),
    PartInfo("headline", "speed:headline", 60, "headline"),
    PartInfo("socrates", "speed:socrates", 50, "headline"),
    PartInfo("reverse", "speed:reverse", 40, "headline"),
    PartInfo("no waiting", "late:no_waiting", 40, "headline"),
    PartInfo("watch", "programs:watch", 60, "programs"),
    PartInfo("doctor", "programs:doctor", 90, "programs"),
)


def part_named(name: str) -> PartInfo:
    return next(part for part in PARTS if part.name == name)
