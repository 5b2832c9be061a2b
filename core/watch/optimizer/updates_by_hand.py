"""Updates that a script makes without a torch optimizer: `p.data -= lr * p.grad`, as in many lectures and examples.

After a backward pass a few weights are kept. If they have changed at the next call of the model or the loss, the script
has made an update. A script may also put new tensors in their place: `w = (w - lr * w.grad).detach().requires_grad_()`.
That is an update if the new ones differ from the old by a multiple of the gradients.
"""

import gc
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.optim import Optimizer

from tui_lab.core.kernels.autograd_graph import graph_leaves
from tui_lab.core.training.optim_without_dynamo import Unwrapped
from tui_lab.core.watch.optimizer.descent import descent_rate, rounding_of

MAX_SAMPLES = 8
"""Parameters of which weights are kept, spread over all."""
MAX_WEIGHTS = 256
"""Weights that are kept of each."""
MAX_IDLE = 20
"""After so many updates without any change of the weights, each further one is taken for a step."""
SAME_RATE = 5e-3
"""Relative difference up to which a rate is that of the update before: it has three digits."""
MAX_WITHOUT_UPDATE = 16
"""Backward passes without an update after which the script may train another model; fewer than MAX_IDLE."""


class ManualOptimizer(Unwrapped):
    """Stands for the optimizer that a script does not have: its `step` is plain gradient descent.

    lr: of the latest update; NaN before the first one, and if the update was of another kind or cannot be measured.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__(list(parameters), {"lr": math.nan})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Subtract the gradients times the rate."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.add_(p.grad, alpha=-float(group["lr"]))


@dataclass(frozen=True)
class _Sample:
    """Some weights of a parameter and their gradient, flat, as they were after a backward pass."""

    parameter: Tensor
    weights: Tensor
    gradient: Tensor

    @property
    def change(self) -> Tensor:
        """How the weights have changed since."""
        return _first(self.parameter) - self.weights

    @property
    def is_finite(self) -> bool:
        """Whether its change and its gradient are numbers, so that they tell how it was updated."""
        return bool(self.change.isfinite().all()) and bool(self.present_gradient.isfinite().all())

    def replaced_by(self, other: Tensor) -> "_Sample":
        """Return the sample with another tensor in the place of the parameter."""
        return _Sample(other, self.weights, self.present_gradient)

    @property
    def present_gradient(self) -> Tensor:
        """The gradient that is there now, unless it was cleared."""
        if self.parameter.grad is None:
            return self.gradient
        present = _first(self.parameter.grad)
        return present if bool(present.any()) else self.gradient


class UpdatesByHand:
    """Call `backward` before and `after_backward` after a backward pass, `update` before each later call.

    has_optimizer: () → whether the script has made an optimizer of torch, which may step later.
    """

    def __init__(self, has_optimizer: Callable[[], bool] | None = None) -> None:
        self.rate: float | None = None
        """The learning rate of the latest update, negative along the gradient, 0 if it changed no weight.

        None if it followed another rule. An update with NaN or infinity keeps the rate of the one before.
        """
        self.replaced: list[tuple[Tensor, Tensor]] = []
        """The parameters that the latest update replaced, and the tensors in their place."""
        self._has_optimizer = has_optimizer or _has_optimizer
        self._optimizer: ManualOptimizer | None = None
        self._parameters: list[Tensor] = []
        self._samples: list[_Sample] = []
        self._is_off = False
        self._has_updated = False
        self._is_in_place = False
        """Whether the latest update has changed the parameters themselves: then the next one will not replace them."""
        self._n_idle = 0
        """Backward passes since the latest update."""
        self._n_of_update = 1
        """Backward passes that led to it."""

    @property
    def is_off(self) -> bool:
        """Whether no updates are looked for any more, so that no call does anything."""
        return self._is_off

    @property
    def optimizer(self) -> ManualOptimizer | None:
        """What stands for the optimizer; None if the script has one, and before the first backward pass."""
        return self._optimizer

    @property
    def has_begun(self) -> bool:
        """Whether any of the kept weights has changed since the last backward pass."""
        return any(bool(sample.change.any()) for sample in self._samples)

    def turn_off(self) -> None:
        """The script has an optimizer, or records its steps itself."""
        self._is_off = True
        self.replaced = []
        self._optimizer = None
        self._parameters = []
        self._samples = []

    def backward(self, loss: Tensor) -> ManualOptimizer | None:
        """Return what stands for the optimizer if this is the first backward pass of a model without one."""
        self._n_idle += 1
        if self._is_off or (self._optimizer is not None and not self._begins_another_model(loss)):
            return None
        if self._has_optimizer():
            self.turn_off()
            return None
        self._parameters = graph_leaves(loss)
        self._optimizer = ManualOptimizer(self._parameters) if self._parameters else None
        return self._optimizer

    def before_backward(self, loss: Tensor, *step: Callable[[ManualOptimizer], None]) -> None:
        """Follow a backward pass that begins. step: called one after the other if the script has made an update."""
        if self._is_off:
            return
        if (optimizer := self.update(loss)) is not None:
            for call in step:
                call(optimizer)
        self.backward(loss)

    def after_backward(self) -> None:
        """Keep some weights and their gradients."""
        with_gradient = [p for p in self._parameters if p.grad is not None and p.numel()]
        if not with_gradient:  # Those of another model.
            self._parameters = []
            self._optimizer = None
        every = max(1, math.ceil(len(with_gradient) / MAX_SAMPLES))
        self._samples = [_Sample(p, _first(p), _first(p.grad)) for p in with_gradient[::every] if p.grad is not None]

    def look_at_gradients(self) -> None:
        """The gradients were changed after the backward pass, or are about to be cleared."""
        self._samples = [replace(sample, gradient=sample.present_gradient) for sample in self._samples]

    def update(self, loss: Tensor | None = None) -> ManualOptimizer | None:
        """Return what stands for the optimizer if the script has made an update since the last backward pass.

        loss: the next one, whose graph has the tensors that the script has put in the place of its parameters.
        """
        self.replaced = []
        is_in_place = self.has_begun
        if not is_in_place and (loss is None or self._is_in_place or not self._replaces(loss)):
            return self._update_without_effect()
        if self._optimizer is None or (not self._has_updated and self._has_optimizer()):
            self.turn_off()
            return None
        self._has_updated = True
        self._is_in_place = is_in_place
        self._n_of_update = max(1, self._n_idle)
        self._n_idle = 0
        if all(sample.is_finite for sample in self._samples):
            self._set_rate(_rate(self._samples))
        self._optimizer.param_groups[0]["lr"] = math.nan if self.rate is None else max(0.0, self.rate)
        self._samples = []
        return self._optimizer

    def _set_rate(self, rate: float | None) -> None:
        if rate is None or self.rate is None or abs(rate - self.rate) > SAME_RATE * abs(self.rate):
            self.rate = None if rate is None else float(f"{rate:.3g}")

    def _update_without_effect(self) -> ManualOptimizer | None:
        """Return what stands for the optimizer if the loop continues with a rate too small to change a weight.

        Without such steps it could be neither paused nor stopped.
        """
        is_due = self._n_idle > MAX_IDLE * self._n_of_update and self._n_idle % self._n_of_update == 0
        if self._optimizer is None or not (self._has_updated and is_due and self._samples):
            return None
        self.rate = 0.0
        self._optimizer.param_groups[0]["lr"] = 0.0
        self._samples = []
        return self._optimizer

    def _begins_another_model(self, loss: Tensor) -> bool:
        """Return whether a loss depends on none of the parameters, which have not changed for a while."""
        if self._n_idle % MAX_WITHOUT_UPDATE:
            return False
        self._is_in_place = False
        known = {id(p) for p in self._parameters}
        is_another = not any(id(leaf) in known for leaf in graph_leaves(loss))
        self._n_idle = 0 if is_another else self._n_idle
        return is_another

    def _replaces(self, loss: Tensor) -> bool:
        """Return whether a loss depends on new tensors that are an update of parameters; they become the parameters."""
        if not self._samples or self._optimizer is None:
            return False
        leaves = {id(leaf): leaf for leaf in graph_leaves(loss)}
        known = {id(p) for p in self._parameters}
        gone = [p for p in self._parameters if id(p) not in leaves]
        new = [leaf for key, leaf in leaves.items() if key not in known]
        if not gone or [p.shape for p in gone] != [leaf.shape for leaf in new]:
            return False
        others = {id(old): leaf for old, leaf in zip(gone, new, strict=True)}
        samples = [s.replaced_by(others[id(s.parameter)]) for s in self._samples if id(s.parameter) in others]
        rate = _rate(samples) if sum(p.numel() for p in gone) > 1 else None  # One number has no direction.
        is_broken = self._has_updated and not all(sample.is_finite for sample in samples)
        if not is_broken and (rate is None or rate < 0):  # They may also be other inputs, or other models.
            return False
        self._samples = samples
        self.replaced = list(zip(gone, new, strict=True))
        self._parameters = [others.get(id(p), p) for p in self._parameters]
        self._optimizer.param_groups[0]["params"] = list(self._parameters)
        return True


def _has_optimizer() -> bool:
    """Return whether there is an optimizer of torch in this process."""
    kinds = {type(obj) for obj in gc.get_objects()}
    return any(issubclass(kind, Optimizer) and kind is not ManualOptimizer for kind in kinds)


def _first(tensor: Tensor) -> Tensor:
    dense = tensor.detach() if tensor.layout == torch.strided else tensor.detach().to_dense()
    return dense.reshape(-1)[:MAX_WEIGHTS].to("cpu", torch.float64, copy=True)


def _rate(samples: Sequence[_Sample]) -> float | None:
    """Return the learning rate of plain gradient descent; None if the changes are of another kind.

    Only the weights that moved tell it. Their gradient may have been changed or cleared after the backward pass.
    """
    moved = [(sample, change) for sample in samples if bool((change := sample.change).any())]
    if not moved:
        return None
    change = torch.cat([change for _, change in moved])
    rounding = math.hypot(*(rounding_of(s.weights, s.parameter.dtype) for s, _ in moved))
    rate = descent_rate(change, torch.cat([s.present_gradient for s, _ in moved]), rounding)
    return descent_rate(change, torch.cat([s.gradient for s, _ in moved]), rounding) if rate is None else rate
