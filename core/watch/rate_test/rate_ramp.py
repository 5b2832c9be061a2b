"""A learning rate that rises from step to step, in place of the one that a script sets."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.training.range_points import RateRange, rates_between
from tui_lab.core.watch.optimizer.optimizers import nominal_rate
from tui_lab.core.watch.rate_test.rated_group import RatedGroup
from tui_lab.core.watch.steering.steering import Steering
from tui_lab.util.errors import ConfigError

NOT_SET = "its learning rate cannot be set: a hook failed"


class RateRamp(Steering):
    """Gives the first parameter group of the first optimizer each rate for one step; the last rate then stays.

    The rates of the other groups, and of further optimizers, keep their ratio to that of the first group, as the script
    gave them. A schedule of the script has no effect.
    """

    def __init__(self, rate_range: RateRange, n_steps_before: Callable[[], int]) -> None:
        """n_steps_before: how many steps the script has completed since the test began."""
        super().__init__()
        self.rates: list[float] = []
        """Empty until the first step, since the range may depend on the optimizer."""
        self._range = rate_range
        self._n_steps_before = n_steps_before
        self._first: weakref.ref[Optimizer] | None = None
        self._script_rate = 0.0
        """Of the first group of the first optimizer, before any schedule."""
        self.latest_own_rate = 0.0
        """The rate that the script itself gave that group for the latest step."""
        self.problem = ""
        """Why the script has its own rates."""
        self.groups: list[RatedGroup] = []
        """Those that the rates are put into, of every optimizer that has stepped; the first one has the ratio 1."""
        self._ratios: weakref.WeakKeyDictionary[Optimizer, list[float]] = weakref.WeakKeyDictionary()
        """Those of the groups of each optimizer, at its first step: a script may set its rates by hand later."""

    def before_step(self, optimizer: Optimizer) -> None:
        """Put the rate of this step into `optimizer`."""
        super().before_step(optimizer)
        if not self.rates:
            self._begin(optimizer)
        if self.problem:
            return
        if self._first is not None and self._first() is optimizer:
            self.latest_own_rate = float(optimizer.param_groups[0]["lr"])
        rate = self.rates[min(self._n_steps_before(), len(self.rates) - 1)]
        for group, ratio in zip(optimizer.param_groups, self._ratios_of(optimizer), strict=True):
            self._set(group, "lr", _like(group["lr"], rate * ratio))

    def _begin(self, optimizer: Optimizer) -> None:
        """Choose the rates: this is the first step."""
        try:
            low, high = self._range.bounds(type(optimizer).__name__)
        except ConfigError as error:
            self.problem = str(error)
            return
        self.rates = rates_between(low, high, self._range.n_rates)
        self._first = weakref.ref(optimizer)
        self._script_rate = nominal_rate(optimizer.param_groups[0])

    def _ratios_of(self, optimizer: Optimizer) -> list[float]:
        """Return the ratio of each group; of one that was added later, too."""
        ratios = self._ratios.setdefault(optimizer, [])
        for number, group in enumerate(optimizer.param_groups[len(ratios) :], len(ratios) + 1):
            ratios.append(self._ratio(group))
            name = group.get("name")
            self.groups.append(
                RatedGroup(
                    optimizer=list(self._ratios).index(optimizer) + 1,
                    kind=type(optimizer).__name__,
                    group=number,
                    name=name if isinstance(name, str) else "",
                    parameters=sum(parameter.numel() for parameter in group["params"]),
                    ratio=ratios[-1],
                )
            )
        return ratios

    def release(self) -> None:
        super().release()
        self.problem = self.problem or NOT_SET

    def _ratio(self, group: dict[str, Any]) -> float:
        """Return the rate of a group relative to that of the first one; 1 where a rate is 0, as before a warm-up."""
        rate = nominal_rate(group)
        return rate / self._script_rate if rate and self._script_rate else 1.0


def _like(own: Any, rate: float) -> Any:
    """Return a rate in the form of the script's own, which is a tensor for a compiled or captured optimizer."""
    return torch.full_like(own, rate) if isinstance(own, Tensor) else rate
