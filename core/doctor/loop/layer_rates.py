"""The learning rates that a loop without an optimizer has for each of its parameters."""

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from tui_lab.core.watch.optimizer.descent import descent_rate, rounding_of

SAME = 0.02
"""Relative difference of two rates that are taken for one."""
CLEAR = 50.0
"""Size of a change, in units of the rounding of its weights, from which the rate is known to within SAME."""
MAX_WEIGHTS = 4096
"""Weights of each parameter that are looked at, spread over all."""


class LayerRates:
    """Call `add` for each update by hand. A schedule may change all rates by the same factor."""

    def __init__(self) -> None:
        self._shares: dict[int, float] = {}
        """The rate of each parameter, by its id, in units that are the same in all updates."""
        self._highest = 0.0
        """The largest factor from these shares to the rates of an update."""
        self._is_broken = False

    def add(self, changes: Mapping[int, tuple[Tensor, Tensor, Tensor]]) -> tuple[float, ...]:
        """Return the different rates of an update, the highest first.

        changes: by the id of a parameter its weights before, those after, and the gradient. Empty if a change is not
        the gradient times a negative number, or if none is clear.
        """
        rates: dict[int, float] = {}
        for key, (before, after, gradient) in changes.items():
            weights = _some(before)
            change = _some(after) - weights
            rounding = rounding_of(weights, before.dtype)
            if not CLEAR * rounding < float(change.norm()) < math.inf:
                continue
            rate = descent_rate(change, _some(gradient), rounding)
            if rate is None or rate < 0:
                self._is_broken = True
                return ()
            rates[key] = rate
        self._compare(rates)
        return tuple(_different(rates.values()))

    def replace(self, old: int, new: int) -> None:
        """Another tensor has taken the place of a parameter. old, new: their ids."""
        if old in self._shares:
            self._shares[new] = self._shares.pop(old)

    @property
    def highest(self) -> dict[int, float]:
        """The highest rate of each parameter, by its id; empty unless they had the same ratios in all updates."""
        if self._is_broken:
            return {}
        rates = {key: share * self._highest for key, share in self._shares.items()}
        different = _different(rates.values())
        return {key: _closest(rate, different) for key, rate in rates.items()}

    def _compare(self, rates: Mapping[int, float]) -> None:
        factors = [rate / self._shares[key] for key, rate in rates.items() if key in self._shares]
        factor = max(factors, default=1.0)
        if factors and min(factors) < (1 - SAME) * factor:
            self._is_broken = True
        for key, rate in rates.items():
            self._shares.setdefault(key, rate / factor)
        if rates:
            self._highest = max(self._highest, factor)


def _some(tensor: Tensor) -> Tensor:
    flat = tensor.detach().reshape(-1)
    return flat[:: max(1, math.ceil(len(flat) / MAX_WEIGHTS))].to("cpu", torch.float64)


def _closest(rate: float, others: Iterable[float]) -> float:
    return min(others, key=lambda other: abs(other - rate))


def _different(rates: Iterable[float]) -> list[float]:
    """Return the rates without those that are about the same as a higher one, from the highest on."""
    different: list[float] = []
    for rate in sorted(rates, reverse=True):
        if not different or rate < (1 - SAME) * different[-1]:
            different.append(float(f"{rate:.3g}"))
    return different
