"""Measures which weight updates are lost, because the weights themselves have few digits."""

from collections import OrderedDict, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.doctor.loop.observed import Rounding
from tui_lab.core.watch.model.model_calls import is_sharded

LOW = (torch.bfloat16, torch.float16)
MAX_UPDATES = 12
MAX_ELEMENTS = 2**22
"""Weights of an optimizer whose steps are repeated in float32; the largest tensors beyond it are left out."""
SMALL = 0.45
"""Changes, in units of the last digit, that rounding to the nearest always loses and other rounding does not."""


class RoundingWatch:
    """Call `before_step` and `after_step` around each step of an optimizer."""

    def __init__(self) -> None:
        self._results: dict[torch.dtype, Rounding] = {}
        self._pending: list[tuple[Tensor, Tensor, Tensor, float]] = []
        self._n_steps = 0

    @property
    def results(self) -> tuple[Rounding, ...]:
        return tuple(self._results.values())

    def before_step(self, optimizer: Optimizer) -> None:
        """Make the step on a copy of the weights in float32."""
        self._pending = []
        self._n_steps += 1
        # What an optimizer keeps is only known after its first step.
        if not 1 < self._n_steps <= MAX_UPDATES + 1:
            return
        chosen = [p for p in _low_parameters(optimizer) if not _keeps_rest(p, optimizer)]
        if not chosen:
            return
        trial, copies = _in_float32(optimizer, chosen)
        rates = {id(p): float(group["lr"]) for group in optimizer.param_groups for p in group["params"]}
        type(optimizer).step(trial)
        self._pending = [(p, p.detach().clone(), copies[id(p)].detach(), rates[id(p)]) for p in chosen]

    def after_step(self) -> None:
        """Compare what the step changed with what it changes in float32."""
        dtypes = {parameter.dtype for parameter, *_ in self._pending}
        for parameter, before, wanted, lr in self._pending:
            result = self._results.get(parameter.dtype, Rounding(str(parameter.dtype).removeprefix("torch.")))
            assert parameter.grad is not None
            self._results[parameter.dtype] = _added(result, parameter, before, wanted, lr)
        for dtype in dtypes:
            self._results[dtype] = replace(self._results[dtype], n_updates=self._results[dtype].n_updates + 1)
        self._pending = []


def _low_parameters(optimizer: Optimizer) -> Iterator[Tensor]:
    """Yield parameters with few digits that have a gradient, the smallest first."""
    held = [p for group in optimizer.param_groups for p in group["params"] if group.get("lr")]
    low = [p for p in held if p.dtype in LOW and p.grad is not None and not p.grad.is_sparse and not is_sharded(p)]
    n_left = MAX_ELEMENTS
    for parameter in sorted(low, key=lambda p: p.numel()):
        n_left -= parameter.numel()
        if n_left >= 0:
            yield parameter


def _in_float32(optimizer: Optimizer, chosen: list[Tensor]) -> tuple[Optimizer, dict[int, Tensor]]:
    """Return an optimizer of the same kind and state over copies of the weights in float32, and the copies by id."""
    copies: dict[int, Tensor] = {}
    for parameter in chosen:
        assert parameter.grad is not None
        copy = torch.nn.Parameter(parameter.detach().float())
        copy.grad = parameter.grad.detach().float()
        copies[id(parameter)] = copy
    trial: Optimizer = object.__new__(type(optimizer))
    vars(trial).update({key: value for key, value in vars(optimizer).items() if key != "step"})
    for hooks in ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks"):
        setattr(trial, hooks, OrderedDict())
    trial.param_groups = [
        {**group, "params": [copies[id(p)] for p in group["params"] if id(p) in copies]}
        for group in optimizer.param_groups
    ]
    trial.state = defaultdict(dict)
    for parameter in chosen:
        if parameter in optimizer.state:
            trial.state[copies[id(parameter)]] = _copied(optimizer.state[parameter])
    return trial, copies


def _keeps_rest(parameter: Tensor, optimizer: Optimizer) -> bool:
    """Return whether the optimizer's state keeps the weight in float32, or what was rounded away before."""
    state = optimizer.state.get(parameter, {})
    for value in state.values():
        if not isinstance(value, Tensor) or value.shape != parameter.shape or not value.is_floating_point():
            continue
        weight = parameter.detach()
        if value.dtype == torch.float32 and float((value.to(weight.dtype) == weight).float().mean()) > 0.99:
            return True
        is_used = (weight != 0) & (value != 0)
        lost = (value.float() / _digit(weight))[is_used]
        # What is lost is at most half a digit, for weights of any size and both signs; a mean of gradients is not.
        if len(lost) >= 8 and float(lost.abs().max()) <= 0.52 and float(lost.min()) < 0 < float(lost.max()):
            return True
    return False


def _digit(weight: Tensor) -> Tensor:
    """Return the distance from each weight to the next value of its type, in float32."""
    exponent = torch.frexp(weight.float())[1]
    return torch.ldexp(torch.full(weight.shape, torch.finfo(weight.dtype).eps, device=weight.device), exponent - 1)


def _copied(state: dict[str, Any]) -> dict[str, Any]:
    def copied(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.detach().float() if value.dtype in LOW else value.detach().clone()

    return {key: copied(value) for key, value in state.items()}


def _added(result: Rounding, parameter: Tensor, before: Tensor, wanted: Tensor, lr: float) -> Rounding:
    """Add the comparison of one parameter. wanted: its value in float32 after the step."""
    assert parameter.grad is not None
    start = before.float()
    change = (wanted - start).abs()
    counted = (parameter.grad != 0) & (change > 0) & torch.isfinite(change)
    is_lost = counted & (parameter.detach() == before)
    relative = change / _digit(before)
    is_small = counted & (start != 0) & (relative < SMALL)
    return replace(
        result,
        n=result.n + int(counted.sum()),
        n_lost=result.n_lost + int(is_lost.sum()),
        size=result.size + float(change[counted].sum()),
        size_lost=result.size_lost + float(change[is_lost].sum()),
        n_expected=result.n_expected + float(relative[is_small].sum()),
        n_made=result.n_made + int((is_small & ~is_lost).sum()),
        lr=max(result.lr, lr),
    )
