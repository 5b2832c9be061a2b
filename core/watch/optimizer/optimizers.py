"""The optimizers of a script: those that have stepped, and the one that ends a step of the run."""

import inspect
import math
import weakref
from collections.abc import Iterator, Mapping
from typing import Any

from torch.optim import Optimizer

from tui_lab.core.watch.optimizer.weak_optimizers import WeakOptimizers

MAX_STEPS_BEFORE = 10**12
"""What is larger in the state of an optimizer is not a number of steps."""


class ScriptOptimizers:
    """Keeps none of them alive."""

    def __init__(self) -> None:
        self._stepped = WeakOptimizers()
        self._last: weakref.ref[Optimizer] | None = None

    @property
    def present(self) -> list[Optimizer]:
        """Those that have stepped, in that order, and that the script still has."""
        return self._stepped.present

    @property
    def has_last(self) -> bool:
        """Whether a step was completed, so that it is known which one ends a step."""
        return self._last is not None

    def add(self, optimizer: Optimizer) -> bool:
        """Note that an optimizer steps; return whether it is new."""
        return self._stepped.add(optimizer)

    def set_last(self, optimizer: weakref.ref[Optimizer] | None) -> None:
        """Note that this one has ended a step."""
        self._last = optimizer

    def is_last(self, optimizer: weakref.ref[Optimizer] | None) -> bool:
        """Return whether this is the one that ends a step."""
        return optimizer is not None and self._last == optimizer


def steps_before(optimizer: Optimizer) -> int | None:
    """Return the steps that an optimizer has made, as its state counts them; 0 for a new one.

    None: it has a state, but does not count steps, as SGD with momentum.
    """
    counts = [count for value in _step_values(optimizer) if (count := _whole(value)) is not None]
    if counts:
        return max(counts)
    has_momentum = any(isinstance(each, dict) and "momentum_buffer" in each for each in optimizer.state.values())
    return None if has_momentum else 0


def peak_rate(optimizer: Optimizer, rate: float) -> float:
    """Return the learning rate that a script gave an optimizer, also where a warm-up begins with `rate`, below it.

    It is what torch's schedulers keep in the first group; or, where a script sets the rate of all groups itself, what
    it passed to the optimizer. Where neither is known, it is `rate`.
    """
    group = optimizer.param_groups[0]
    kept = group.get("max_lr", group.get("initial_lr"))
    if kept is not None:
        return float(kept)
    default = optimizer.defaults.get("lr")
    if default is None or len({float(each["lr"]) for each in optimizer.param_groups}) > 1:
        return rate
    lr_parameter = inspect.signature(type(optimizer)).parameters.get("lr")
    is_given = lr_parameter is None or default != lr_parameter.default
    return max(rate, float(default)) if is_given else rate


def nominal_rate(group: Mapping[str, Any]) -> float:
    """Return the learning rate of a parameter group before any schedule of torch, or else its present one."""
    return float(group.get("initial_lr", group["lr"]))


def _step_values(optimizer: Optimizer) -> Iterator[object]:
    """Yield what the state of each parameter, or each group, holds under the name with which optimizers count."""
    for part in (*optimizer.state.values(), *optimizer.param_groups):
        if isinstance(part, dict) and "step" in part:
            yield part["step"]


def _whole(value: object) -> int | None:
    """Return the number of steps that a value is; a tensor on a GPU is waited for."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, RuntimeError):  # Several numbers, or a tensor without data.
        return None
    return int(number) if math.isfinite(number) and 0 <= number <= MAX_STEPS_BEFORE else None
