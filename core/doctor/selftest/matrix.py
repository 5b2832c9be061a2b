"""The matrix of designs and faults: which fault is named first, and whether healthy designs are left in peace."""

import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.config.faults import FAULTS, NEED_DROPOUT, ONLY_REVERSE
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.from_config import lab_subject
from tui_lab.core.doctor.runner import examine
from tui_lab.core.doctor.selftest.random_configs import odd_config
from tui_lab.core.doctor.selftest.reference_models import CONTEXT, DESIGNS, applies, design_subject
from tui_lab.core.doctor.target import Subject

PRESETS = ("reverse", "socrates")
HEALTHY, PRESET_SEEDS = 24, 6
"""Healthy cases of each odd task and each foreign design; of each preset."""


@dataclass(frozen=True)
class Row:
    """One examination. expected: the code of the finding that must come first; None: there must be none.
    crashed: the checks that crashed, of which a healthy case must have none."""

    design: str
    fault: str | None
    seed: int
    expected: str | None
    found: tuple[str, ...]
    seconds: float
    crashed: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        if self.expected is None:
            return not self.found and not self.crashed
        return self.found[:1] == (self.expected,)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"right": self.right}


@dataclass(frozen=True)
class Trial:
    """number: which of the healthy cases of its design it is."""

    design: str
    fault: str | None
    seed: int
    make: Callable[[], Subject]
    number: int = 0

    def run(self) -> Row:
        began = time.perf_counter()
        with warnings.catch_warnings():
            # Other people's libraries warn of what is theirs.
            warnings.simplefilter("ignore")
            report = examine(self.make())
        expected = FAULTS[self.fault].finding if self.fault else None
        found = tuple(finding.code for finding in report.findings)
        crashed = tuple(crash.check for crash in report.crashed)
        seconds = round(time.perf_counter() - began, 3)
        return Row(self.design, self.fault, self.seed, expected, found, seconds, crashed)


def trials(seed: int = 0) -> Iterator[Trial]:
    """All of them, the faulty ones first, in a fixed order."""
    for fault in FAULTS:
        yield from _faulty(fault, seed)
    for number in range(HEALTHY):
        yield from _healthy(number, seed)


def _faulty(fault: str, seed: int) -> Iterator[Trial]:
    own = zlib.crc32(f"{seed} {fault}".encode())
    for preset in PRESETS:
        if preset == "reverse" or fault not in ONLY_REVERSE:
            yield Trial(preset, fault, own % 1000, _preset(preset, own % 1000, fault))
    for i, task in enumerate(("reverse", "text")):
        if task == "reverse" or fault not in ONLY_REVERSE:
            yield Trial(f"odd {task}", fault, own + i, _odd(own + i, task, fault))
    for design in DESIGNS:
        if design.available and applies(design, fault):
            config = _text(own, fault)
            yield Trial(design.name, fault, own, partial(design_subject, design, config))


def _healthy(number: int, seed: int) -> Iterator[Trial]:
    own = zlib.crc32(f"{seed} healthy {number}".encode())
    if number < PRESET_SEEDS:
        for preset in PRESETS:
            yield Trial(preset, None, number, _preset(preset, number, None), number)
    for task in ("reverse", "text"):
        yield Trial(f"odd {task}", None, own, _odd(own, task, None), number)
    for design in DESIGNS:
        if design.available:
            config = _text(own, None)
            yield Trial(design.name, None, own, partial(design_subject, design, config), number)


def _preset(name: str, seed: int, fault: str | None) -> Callable[[], Subject]:
    sets = [f"train.seed={seed}", *([f'faults=["{fault}"]'] if fault else [])]
    if fault in NEED_DROPOUT:
        sets.append("model.dropout=0.2")
    return lambda: lab_subject(settings.load(name, sets))


def _odd(seed: int, task: str, fault: str | None) -> Callable[[], Subject]:
    return lambda: lab_subject(odd_config(seed, task=task, dropout=fault in NEED_DROPOUT, faults=_tuple(fault)))


def _text(seed: int, fault: str | None) -> Config:
    """A text for a foreign design; shuffling while one datapoint is pinned is what a stranger's loader can show."""
    config = odd_config(seed, task="text", dropout=fault in NEED_DROPOUT)
    overfit = 1 if fault == "shuffle_every_step" else 0
    changes = {"model.context": CONTEXT, "data.overfit": overfit, "optim.lr": 1e-3, "train.batch_size": 4}
    for key, value in changes.items():
        config = settings.changed(config, key, value)
    return settings.changed(config, "faults", _tuple(fault))


def _tuple(fault: str | None) -> tuple[str, ...]:
    return (fault,) if fault else ()


def summary(rows: list[Row]) -> dict[str, Any]:
    """The figures: named first, misses, false alarms."""
    faulty = [row for row in rows if row.fault]
    healthy = [row for row in rows if not row.fault]
    return {
        "cases": len(rows),
        "faults": len({row.fault for row in faulty}),
        "designs": sorted({row.design for row in rows}),
        "not_available": [design.name for design in DESIGNS if not design.available],
        "named_first": sum(row.right for row in faulty),
        "faulty": len(faulty),
        "healthy": len(healthy),
        "false_alarms": sum(not row.right for row in healthy),
        "misses": [row.to_json() for row in rows if not row.right],
        "seconds": round(sum(row.seconds for row in rows), 1),
    }
