"""Traces an update of a copy: what its forward passes return, what backward gives, and what the step receives."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import NotJudged
from tui_lab.core.doctor.measures.no_dropout import without_dropout
from tui_lab.core.doctor.program.batch import Batch
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.target import MAX_CALLS, Target, seed_everything


@dataclass(frozen=True)
class TracedForward:
    """A forward pass. ids: int64 [B, T], if the model got some. gradients: of the output's tensors, by their id()."""

    output: Any
    ids: Tensor | None
    gradients: dict[int, Tensor] = field(default_factory=dict)


class UpdateTrace:
    """Records what an update does to a copy of a target, through hooks on its model and optimizers.

    called: whether a module of the model was called. stepped: whether an optimizer has stepped.
    with_closure: whether a step got a closure, as that of LBFGS does, which calls backward within the step.
    given: the gradients that backward gave, by parameter id. received: what the step got, by parameter id.
    """

    def __init__(self, trial: Target) -> None:
        self.trial = trial
        self.called = False
        self.stepped = False
        self.with_closure = False
        self.given: dict[int, Tensor] = {}
        self.received: dict[int, Tensor] = {}
        self._backward_counts: dict[int, int] = {}
        self.forwards: list[TracedForward] = []
        """The forward passes with gradients."""
        trial.model.register_forward_hook(self._returned, with_kwargs=True)
        for module in trial.model.modules():
            module.register_forward_pre_hook(self._calling)
        for p in trial.model.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(self._accumulated)  # type: ignore[no-untyped-call]
        for optimizer in trial.optimizers:
            optimizer.register_step_pre_hook(self._stepping)

    @property
    def backward_calls(self) -> int:
        """How often backward reached the parameter that it reached most often."""
        return max(self._backward_counts.values(), default=0)

    def run(self, batch: Batch, *, await_gradient: bool = False) -> None:
        """Make updates on the batch until one steps; with `await_gradient`, until backward has given one, too."""
        for _ in range(MAX_CALLS):
            with without_dropout(self.trial.model), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self.trial.apply_update(batch)
            is_done = self.stepped and (bool(self.given) or not await_gradient)
            if is_done or not self.called:
                return

    def _calling(self, *_: Any) -> None:
        self.called = True

    def _returned(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        if not torch.is_grad_enabled():
            return
        ids = (t for t in tensors_of([args, kwargs]) if t.dtype == torch.int64 and t.dim() == 2)
        forward = TracedForward(output, next(ids, None))
        for tensor in tensors_of(output):
            if tensor.requires_grad and tensor.dim():
                tensor.register_hook(_storing(forward.gradients, id(tensor)))  # type: ignore[no-untyped-call]
        self.forwards.append(forward)

    def _accumulated(self, p: Tensor) -> None:
        if p.grad is not None:
            self._backward_counts[id(p)] = self._backward_counts.get(id(p), 0) + 1
            self.given[id(p)] = p.grad.detach().to_dense().clone()

    def _stepping(self, optimizer: Any, positional: Any, named: Any) -> None:
        self.stepped = True
        self.with_closure = self.with_closure or any(map(callable, [*positional, *named.values()]))
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.received[id(p)] = p.grad.detach().to_dense().clone()


def _storing(gradients: dict[int, Tensor], key: int) -> Callable[[Tensor], None]:
    def store(gradient: Tensor) -> None:
        # A pass may give a tensor's gradient in several backward calls.
        gradients[key] = gradients[key] + gradient if key in gradients else gradient.detach()

    return store


def stated_gradients(target: Target, batch: Batch) -> list[Tensor | None]:
    """Return the stated loss's gradient for every parameter, in training mode without dropout.

    Raises NotJudged if the loss has no gradient.
    """
    trial = target.fresh()
    trial.model.train()
    seed_everything(trial.seed)
    with without_dropout(trial.model), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = trial.loss(batch)
        parameters = list(trial.model.parameters())
        trained = [p for p in parameters if p.requires_grad]
        if not loss.requires_grad or not trained:
            raise NotJudged("the loss has no gradient")
        gradients = torch.autograd.grad(loss, trained, allow_unused=True)
    by_id = dict(zip(map(id, trained), gradients, strict=True))
    return [by_id.get(id(p)) for p in parameters]


def cosine_and_ratio(first: Sequence[Tensor | None], second: Sequence[Tensor | None]) -> tuple[float, float]:
    """Return the cosine between the gradients that both have, and the ratio of their norms.

    Both are nan if one of the norms is zero or not finite.
    """
    dot = first_square = second_square = 0.0
    for a, b in zip(first, second, strict=True):
        if a is not None and b is not None:
            dot += float((a.double() * b.double()).sum())
            first_square += float(a.double().norm()) ** 2
            second_square += float(b.double().norm()) ** 2
    if not (0 < first_square < math.inf and 0 < second_square < math.inf):
        return math.nan, math.nan
    return dot / math.sqrt(first_square * second_square), math.sqrt(first_square / second_square)
