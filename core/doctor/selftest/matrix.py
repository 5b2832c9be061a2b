"""Every fault in every design: is it the first finding, and do healthy designs have none?"""

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
from tui_lab.core.doctor.program.from_config import target_from_config
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.runner import examine
from tui_lab.core.doctor.selftest.random_configs import random_config
from tui_lab.core.doctor.selftest.reference_models import CONTEXT, REFERENCE_MODELS, applies, reference_target

PRESETS = ("reverse", "socrates")
HEALTHY_CASES = 24
"""Of each task with random configs, and of each reference model."""
PRESET_SEEDS = 6
"""Healthy cases of each preset."""


@dataclass(frozen=True)
class Row:
    """The result of one case.

    expected: the code that must be the first finding; None: there must be no finding.
    findings: the codes that were found. crashed: the checks that crashed; a healthy case must have none.
    """

    design: str
    fault: str | None
    seed: int
    expected: str | None
    findings: tuple[str, ...]
    seconds: float
    crashed: tuple[str, ...] = ()

    @property
    def right(self) -> bool:
        if self.expected is None:
            return not self.findings and not self.crashed
        return self.findings[:1] == (self.expected,)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"right": self.right}


@dataclass(frozen=True)
class Trial:
    """A case to diagnose. number: its index among the healthy cases of its design."""

    design: str
    fault: str | None
    seed: int
    make: Callable[[], Target]
    number: int = 0

    def run(self) -> Row:
        began = time.perf_counter()
        with warnings.catch_warnings():
            # The reference models' libraries warn about themselves.
            warnings.simplefilter("ignore")
            report = examine(self.make())
        expected = FAULTS[self.fault].finding if self.fault else None
        findings = tuple(finding.code for finding in report.findings)
        crashed = tuple(crash.check for crash in report.crashed)
        seconds = round(time.perf_counter() - began, 3)
        return Row(self.design, self.fault, self.seed, expected, findings, seconds, crashed)


def trials(seed: int = 0) -> Iterator[Trial]:
    """Yield all cases in a fixed order, the faulty ones first."""
    for fault in FAULTS:
        yield from _faulty(fault, seed)
    for number in range(HEALTHY_CASES):
        yield from _healthy(number, seed)


def _faulty(fault: str, seed: int) -> Iterator[Trial]:
    case_seed = zlib.crc32(f"{seed} {fault}".encode())
    for preset in PRESETS:
        if preset == "reverse" or fault not in ONLY_REVERSE:
            yield Trial(preset, fault, case_seed % 1000, _preset(preset, case_seed % 1000, fault))
    for i, task in enumerate(("reverse", "text")):
        if task == "reverse" or fault not in ONLY_REVERSE:
            yield Trial(f"random {task}", fault, case_seed + i, _random(case_seed + i, task, fault))
    for model in REFERENCE_MODELS:
        if model.available and applies(model, fault):
            config = _text(case_seed, fault)
            yield Trial(model.name, fault, case_seed, partial(reference_target, model, config))


def _healthy(number: int, seed: int) -> Iterator[Trial]:
    case_seed = zlib.crc32(f"{seed} healthy {number}".encode())
    if number < PRESET_SEEDS:
        for preset in PRESETS:
            yield Trial(preset, None, number, _preset(preset, number, None), number)
    for task in ("reverse", "text"):
        yield Trial(f"random {task}", None, case_seed, _random(case_seed, task, None), number)
    for model in REFERENCE_MODELS:
        if model.available:
            config = _text(case_seed, None)
            yield Trial(model.name, None, case_seed, partial(reference_target, model, config), number)


def _preset(name: str, seed: int, fault: str | None) -> Callable[[], Target]:
    sets = [f"train.seed={seed}", *([f'faults=["{fault}"]'] if fault else [])]
    if fault in NEED_DROPOUT:
        sets.append("model.dropout=0.2")
    return lambda: target_from_config(settings.load(name, sets))


def _random(seed: int, task: str, fault: str | None) -> Callable[[], Target]:
    return lambda: target_from_config(
        random_config(seed, task=task, dropout=fault in NEED_DROPOUT, faults=_tuple(fault))
    )


def _text(seed: int, fault: str | None) -> Config:
    """Draw the config of a text; to show shuffling, user code must pin one example."""
    config = random_config(seed, task="text", dropout=fault in NEED_DROPOUT)
    overfit = 1 if fault == "shuffle_every_step" else 0
    changes = {"model.context": CONTEXT, "data.overfit": overfit, "optim.lr": 1e-3, "train.batch_size": 4}
    for key, value in changes.items():
        config = settings.changed(config, key, value)
    return settings.changed(config, "faults", _tuple(fault))


def _tuple(fault: str | None) -> tuple[str, ...]:
    return (fault,) if fault else ()


def summary(rows: list[Row]) -> dict[str, Any]:
    """Return the figures: faults named first, misses, false alarms."""
    faulty = [row for row in rows if row.fault]
    healthy = [row for row in rows if not row.fault]
    return {
        "cases": len(rows),
        "faults": len({row.fault for row in faulty}),
        "designs": sorted({row.design for row in rows}),
        "not_available": [model.name for model in REFERENCE_MODELS if not model.available],
        "named_first": sum(row.right for row in faulty),
        "faulty": len(faulty),
        "healthy": len(healthy),
        "false_alarms": sum(not row.right for row in healthy),
        "misses": [row.to_json() for row in rows if not row.right],
        "seconds": round(sum(row.seconds for row in rows), 1),
    }
