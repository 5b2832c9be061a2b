"""Measures the gradients of a loop: what backward gives, what the step receives, and which weights it then changes."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.doctor.loop.layer_rates import LayerRates
from tui_lab.core.doctor.loop.loop_parameters import LoopParameters
from tui_lab.core.doctor.loop.loss_scales import MixedScales
from tui_lab.core.doctor.loop.norms import dense, dots, norms, total
from tui_lab.core.doctor.loop.weight_changes import WeightChanges
from tui_lab.core.watch.model.model_search import parameters_of

ROUNDING = 1e-6
"""Of the largest gradient of a step, that of a parameter whose gradients cancel, such as a bias before batch
normalization: only rounding is left of them, about 1e-8 in float32."""


@dataclass
class Cycle:
    """One parameter between two steps of its optimizer.

    norm_after_step: of its gradient, right after the step before; None before the first step.
    was_cleared: whether a backward call or a step saw it without the gradient of the step before.
    was_added: whether a backward call added to that gradient.
    was_given: whether any backward call so far gave a gradient other than zero.
    """

    norm_after_step: float | None = None
    was_cleared: bool = False
    was_added: bool = False
    was_given: bool = False
    n_cleared: int = 0
    n_kept: int = 0
    n_received: int = 0
    """Steps at which neither the gradient nor the rate was zero."""
    n_left_out: int = 0
    """Updates by hand that left it as it was, although its gradient times the rate would have changed it."""


@dataclass
class UpdateGradients:
    """The measurements of one update. given: by parameter id, what backward added, in unscaled units."""

    leftover: float | None = None
    given: dict[int, Tensor] = field(default_factory=dict)
    restarts: int = 0
    given_norm: float = 0.0
    received_norm: float = 0.0
    dot: float = 0.0
    is_compared: bool = False
    moved: set[int] = field(default_factory=set)
    change: float = 0.0
    weights: float = 0.0
    not_finite: tuple[str, ...] = ()
    mixed: MixedScales = field(default_factory=MixedScales)


class LoopGradients:
    """Call `watch` with the parameters as they become known, then the other methods as the loop runs."""

    def __init__(self) -> None:
        self._parameters = LoopParameters()
        self._changes = WeightChanges(self._parameters)
        self._cycles: dict[int, Cycle] = {}
        self._norms_before: dict[int, float] = {}
        self._gradients_before: dict[int, Tensor] = {}
        self._kept_gradients: dict[int, Tensor] = {}
        """As they were after a backward pass, for an update by hand."""
        self._layer_rates = LayerRates()
        self.update = UpdateGradients()

    def watch(self, named: Iterable[tuple[str, Tensor]]) -> None:
        """Add parameters; one that is there already gets the new name if it has none."""
        if not self._parameters.add(named):
            return
        for key in self._parameters.compared:
            if key not in self._cycles:
                self._changes.unmoved.setdefault(key)
                self._cycles[key] = Cycle()

    def replace(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The loop has put new tensors in the place of parameters."""
        tables: list[dict[int, Any]] = [self._cycles, self._kept_gradients, self.update.given]
        for old, new in pairs:
            for table in tables:
                if id(old) in table:
                    table[id(new)] = table.pop(id(old))
            self._parameters.replace(old, new)
            self._changes.replace(old, new)
            self._layer_rates.replace(id(old), id(new))

    @property
    def moves_by_hand(self) -> bool:
        """Whether most weights changed between backward passes without a step of any optimizer."""
        return self._changes.moves_by_hand

    @property
    def never_cleared(self) -> tuple[str, ...]:
        """Names of parameters whose gradients were kept and added to in at least two updates, and never cleared."""
        kept = [key for key, cycle in self._cycles.items() if cycle.n_kept >= 2 and not cycle.n_cleared]
        return self._parameters.names(kept)

    @property
    def unmoved(self) -> tuple[str, ...]:
        """Names of trainable parameters that no step changed."""
        return self._parameters.names(self._changes.unmoved)

    @property
    def unmoved_with_gradient(self) -> tuple[str, ...]:
        """Names of parameters that had a gradient at two steps or more, and that no step changed."""
        keys = [key for key in self._changes.unmoved if self._cycles[key].n_received >= 2]
        return self._parameters.names(keys)

    @property
    def with_gradient(self) -> tuple[Tensor, ...]:
        """The parameters that any backward call gave a gradient other than zero."""
        return self._parameters.tensors(key for key, cycle in self._cycles.items() if cycle.was_given)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of parameters that no update by hand changed, though at least two should have."""
        keys = [key for key in self._changes.unmoved if self._cycles[key].n_left_out >= 2]
        return self._parameters.names(keys)

    @property
    def rates_by_hand(self) -> tuple[tuple[Tensor, float], ...]:
        """The highest rate of each parameter in updates by hand; empty if their ratios changed, or are not known."""
        highest = self._layer_rates.highest
        return tuple(zip(self._parameters.tensors(highest), highest.values(), strict=True))

    def before_backward(self, line: str = "", *, is_scaled: bool | None = None) -> None:
        """Note the gradients that are there before a backward pass.

        line: of its call. is_scaled: whether GradScaler has multiplied the loss; None if that does not matter.
        """
        self._changes.before_backward()
        present = {key: p.grad for key, p in self._parameters.compared.items() if p.grad is not None}
        self._norms_before = dict(zip(present, norms(list(present.values())), strict=True))
        nonzero = {key: present[key] for key, norm in self._norms_before.items() if norm > 0}
        for key, cycle in self._cycles.items():
            if cycle.norm_after_step is not None and self._norms_before.get(key, 0.0) == 0:
                cycle.was_cleared = True
        update = self.update
        if update.leftover is None:
            update.leftover = total(self._norms_before[key] for key in nonzero)
        elif update.given and not any(key in nonzero for key in update.given):
            update.restarts += any(bool(gradient.any()) for gradient in update.given.values())
            update.given.clear()
        update.mixed.kept(nonzero.keys())
        update.mixed.begin(line, is_scaled=is_scaled)
        self._gradients_before = {key: dense(gradient).clone() for key, gradient in nonzero.items()}

    def after_backward(self, scale: float) -> None:
        """Add what the backward pass gave, divided by the loss scale."""
        for key, parameter in self._parameters.compared.items():
            if parameter.grad is None:
                continue
            gradient = dense(parameter.grad)
            before = self._gradients_before.get(key)
            added = gradient.clone() if before is None else gradient - before
            if scale != 1.0:
                added /= scale
            given_before = self.update.given.get(key)
            self.update.given[key] = added if given_before is None else given_before.add_(added)
            cycle = self._cycles[key]
            if bool(added.any()):
                cycle.was_given = True
                self.update.mixed.added(key)
            is_kept = before is not None and self._norms_before[key] == cycle.norm_after_step
            if is_kept and not cycle.was_cleared:
                cycle.was_added = cycle.was_added or bool(added.any())
        self._gradients_before = {}

    def before_step(self, optimizer: Optimizer, *, has_closure: bool) -> None:
        """Compare what backward gave with what the step receives, and note the weights."""
        self._changes.before_step()
        if not has_closure:
            self._receive_of(optimizer)

    def after_step(self, optimizer: Optimizer, *, has_closure: bool) -> None:
        """Note what the step changed. A step with a closure received the gradients that are there after it."""
        if has_closure:
            self._receive_of(optimizer)
        self._end_cycles(parameters_of([optimizer]))
        self._measure_changes()

    def keep(self) -> None:
        """Keep the weights as they were before an update by hand, and the latest gradients that are not zero."""
        self._changes.keep()
        present = {key: dense(p.grad) for key, p in self._parameters.compared.items() if p.grad is not None}
        self._kept_gradients |= {key: gradient.clone() for key, gradient in present.items() if bool(gradient.any())}

    def updated_by_hand(self, rate: float | None) -> tuple[float, ...]:
        """Note an update that the loop has made by itself since `keep`; return its rates, as `LayerRates` does.

        rate: of plain gradient descent with one rate, if it was.
        """
        self._changes.updated_by_hand()
        self.keep()
        used = self._used_by_hand()
        weights = self._changes.before
        rates = self._layer_rates.add({key: (weights[key], self._parameters.compared[key], used[key]) for key in used})
        received = self._receive(weights, used, scale=None)
        changed = self._measure_changes()
        least = _least_rate(changed, received) if rate is None else rate
        for key, norm in received.items() if changed else ():  # Else the loop trains something else than its model.
            is_due = norm > 0
            if least is not None and key not in changed:  # A tiny gradient changes nothing.
                is_due = not torch.equal(weights[key], weights[key] - least * used[key])
                self._cycles[key].n_left_out += is_due
            self._cycles[key].n_received += is_due
        self._end_cycles([self._parameters.compared[key] for key in changed])
        self._kept_gradients = {}
        return rates

    def _used_by_hand(self) -> dict[int, Tensor]:
        """Return the new gradients that an update by hand used: the loop may have cleared them since."""
        known = self._changes.before.keys() & self._kept_gradients.keys() & self._parameters.compared.keys()
        new = [key for key, given in self.update.given.items() if key in known and bool(given.any())]
        return {key: self._kept_gradients[key] for key in new}

    def _measure_changes(self) -> dict[int, float]:
        """Note how the weights differ from those before the step; return the norm of each change that is not zero."""
        changed, norms_before = self._changes.measure()
        self.update.moved |= changed.keys()
        self.update.change = total((self.update.change, *changed.values()))
        self.update.weights = total(norms_before)
        return changed

    def end_update(self) -> UpdateGradients:
        """Return the measurements of the update and begin the next."""
        ended = self.update
        self.update = UpdateGradients()
        return ended

    @property
    def n_trainable(self) -> int:
        """The number of tensors that are compared."""
        return len(self._parameters.compared)

    def _receive_of(self, optimizer: Optimizer) -> None:
        held = {id(p): p for p in parameters_of([optimizer]) if id(p) in self._parameters.compared}
        gradients = {key: dense(p.grad) for key, p in held.items() if p.grad is not None}
        scale = getattr(optimizer, "grad_scale", None)  # A fused optimizer divides by GradScaler's factor itself.
        rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
        received = self._receive(held, gradients, scale)
        least = ROUNDING * max(received.values(), default=0.0)
        for key, norm in received.items():
            self._cycles[key].n_received += norm > least and rates[key] != 0

    def _receive(self, held: Iterable[int], gradients: dict[int, Tensor], scale: Tensor | None) -> dict[int, float]:
        """Compare the gradients that a step receives with those given. held: the ids of what it may change.

        scale: what the step itself divides the gradients by. Return the norms of the gradients.
        """
        update = self.update
        given = {key: update.given[key] for key in held if key in update.given}
        update.is_compared = update.is_compared or bool(given) or bool(gradients)
        received_norms = dict(zip(gradients, norms(list(gradients.values())), strict=True))
        if scale is not None:
            received_norms = {key: norm / float(scale) for key, norm in received_norms.items()}
        update.received_norm = total((update.received_norm, *received_norms.values()))
        update.given_norm = total((update.given_norm, *norms(list(given.values()))))
        both = [key for key in given if key in gradients]
        update.dot += sum(dots([given[key] for key in both], [gradients[key] for key in both])) / float(scale or 1.0)
        infinite = [key for key, norm in received_norms.items() if not norm < float("inf")]
        update.not_finite += self._parameters.names(infinite)
        return received_norms

    def _end_cycles(self, parameters: Sequence[Tensor]) -> None:
        held = [p for p in parameters if id(p) in self._cycles]
        gradients = {id(p): p.grad for p in held if p.grad is not None}
        norm_of = dict(zip(gradients, norms(list(gradients.values())), strict=True))
        for parameter in held:
            cycle = self._cycles[id(parameter)]
            if cycle.norm_after_step:
                if cycle.was_added and not cycle.was_cleared:
                    cycle.n_kept += 1
                elif cycle.was_cleared:
                    cycle.n_cleared += 1
            cycle.norm_after_step = norm_of.get(id(parameter), 0.0)
            cycle.was_cleared = False
            cycle.was_added = False


def _least_rate(changes: Mapping[int, float], gradients: Mapping[int, float]) -> float | None:
    """Return the smallest change of a parameter in units of its gradient, from the norms; None if no change has one.

    By whatever rule a loop updates its weights, such as momentum, it would change those with a gradient by as much.
    """
    ratios = [changes[key] / norm for key, norm in gradients.items() if norm > 0 and key in changes]
    return min(filter(math.isfinite, ratios), default=None)
