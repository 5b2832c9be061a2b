"""What is measured every few steps of a script, within a budget: gradient norm, update ratio, dead units, memory."""

import time
from collections.abc import Callable, Iterable

import psutil
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tui_lab.core.training.layer_metrics import LAYERS_EVERY, DeadUnits, gradient_norms, means_by_layer
from tui_lab.core.training.step_metrics import DEAD_UNITS_EVERY, UPDATE_RATIO_EVERY
from tui_lab.core.watch.model.model_calls import is_sharded, unwrapped
from tui_lab.core.watch.model.model_search import gradients_of
from tui_lab.core.watch.steps.budget import Budget
from tui_lab.core.watch.steps.open_step import OpenStep

MAX_MATRICES = 16
MAX_WEIGHTS = 2**22
"""Weights of a matrix at most for the update ratio, which needs a copy."""
SECONDS_BETWEEN_MEMORY = 1.0
MIB = 2**20
BY_LAYER = "by_layer"
"""What the name of a measurement of a layer begins with in `OpenStep.to_read`: "by_layer/grad_norm/layers.0"."""


class Measurements:
    """Measures around a step of one optimizer. Nothing is changed: weights are copied, gradients only read."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._budget = Budget(clock=clock)
        self._clock = clock
        self._process = psutil.Process()
        self._memory_at = float("-inf")
        self._weights: list[Tensor] = []
        self._before: list[Tensor] = []
        self._step = 0
        self._ratio_at: int | None = None
        self._dead_units: DeadUnits | None = None
        self._dead_units_at: int | None = None
        self._layer_norms: dict[str, Tensor] = {}
        self._layers_at: int | None = None
        self._has_clipped = False
        """Whether the script has clipped gradients since the last step."""

    def before_clip(self, model: nn.Module | None) -> None:
        """Measure each layer's gradient if that is due, before the script clips any. None: it is not known yet."""
        if not self._has_clipped:
            self._has_clipped = True
            self._measure_layers(model, self._step + 1)

    def skipped(self) -> None:
        """There is no step: what was measured for it is forgotten, and due again."""
        self._has_clipped = False
        if self._layer_norms:
            self._layer_norms = {}
            self._layers_at = None

    def before_step(self, optimizer: Optimizer, model: nn.Module | None) -> None:
        """Copy the weights if the update ratio is due, and measure each layer's gradient if that is due."""
        self._step += 1
        if not self._has_clipped:
            self._measure_layers(model, self._step)
        self._has_clipped = False
        due = self._ratio_at is None or self._step >= self._ratio_at + UPDATE_RATIO_EVERY
        if not due or not self._budget.allows():
            return
        with self._budget.spend():
            self._ratio_at = self._step
            self._weights = measured_weights(optimizer, model)
            self._before = [weight.detach().clone() for weight in self._weights]

    def _measure_layers(self, model: nn.Module | None, step: int) -> None:
        """Measure the present gradient of each layer for this step."""
        self._layer_norms = {}
        due = self._layers_at is None or step >= self._layers_at + LAYERS_EVERY
        if model is None or not due or not self._budget.allows():
            return
        with self._budget.spend():
            self._layers_at = step
            if not any(p.grad is not None and is_sharded(p.grad) for p in model.parameters()):
                self._layer_norms = gradient_norms(model)

    def after_step(self, step: OpenStep, *, has_norm: bool) -> None:
        """Add to a step what was measured, after its first optimizer. has_norm: whether the script gave its norm."""
        if self._before and (ratio := self.update_ratio()) is not None:
            step.to_read["update_ratio"] = ratio
        if (watched := self._dead_units) is not None:
            self._dead_units = None
            self._read_dead_units(watched, step)
        for layer, layer_norm in self._layer_norms.items():
            step.to_read[f"{BY_LAYER}/grad_norm/{layer}"] = layer_norm
        if not has_norm and (norm := self.gradient_norm(step.stepped.present)) is not None:
            step.to_read["norm/0"] = norm
        step.extra |= self.memory()

    def update_ratio(self) -> Tensor | None:
        """After the step: ‖Δw‖ / ‖w‖ over the copied weights, [] on their device; None if none were copied."""
        if not self._before:
            return None
        with self._budget.spend(), torch.no_grad():
            changes = [w.detach() - old for w, old in zip(self._weights, self._before, strict=True)]
            ratio = torch.nn.utils.get_total_norm(changes) / torch.nn.utils.get_total_norm(self._before)
        self._weights = []
        self._before = []
        return ratio

    def gradient_norm(self, optimizers: Iterable[Optimizer]) -> Tensor | None:
        """Return the norm of all gradients that the last step used, [] on their device, if the budget allows."""
        if not self._budget.allows():
            return None
        with self._budget.spend(), torch.no_grad():
            gradients = gradients_of(optimizers)
            if any(is_sharded(gradient) for gradient in gradients):
                return None
            return torch.nn.utils.get_total_norm(gradients) if gradients else None

    def forward(self, model: nn.Module) -> None:
        """Before a call of the model: watch its ReLUs if they are due, unless hooks would compile it again."""
        last = self._dead_units_at
        due = last is None or (self._step >= last + DEAD_UNITS_EVERY and self._budget.allows())
        if not due or self._dead_units is not None or unwrapped(model) is not model:
            return
        self._dead_units_at = self._step
        with self._budget.spend():
            self._dead_units = DeadUnits(model)

    def _read_dead_units(self, watched: DeadUnits, step: OpenStep) -> None:
        """After the step: the fraction of dead units, of all and of each layer."""
        shares = watched.shares()
        if shares:
            step.to_read["dead_units"] = torch.stack(list(shares.values())).mean()
            layers = means_by_layer(shares)
            step.to_read |= {f"{BY_LAYER}/dead_units/{layer}": share for layer, share in layers.items()}

    def memory(self) -> dict[str, float]:
        """Return the memory of this process and of the GPU in MiB, once a second."""
        now = self._clock()
        if now - self._memory_at < SECONDS_BETWEEN_MEMORY:
            return {}
        self._memory_at = now
        values = {"memory_mib": self._process.memory_info().rss / MIB}
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            values["gpu_memory_mib"] = torch.cuda.max_memory_allocated() / MIB
        return values


def measured_weights(optimizer: Optimizer, model: nn.Module | None) -> list[Tensor]:
    """Up to `MAX_MATRICES` weight matrices, spread evenly over the parameters.

    Embeddings are left out where the model is known: most of their rows do not occur in a batch.
    """
    embeddings: set[int] = set()
    if model is not None:
        modules = (module for module in model.modules() if isinstance(module, nn.Embedding))
        embeddings = {id(module.weight) for module in modules}
    matrices = [
        p
        for group in optimizer.param_groups
        for p in group["params"]
        if p.dim() >= 2
        and p.requires_grad
        and p.numel() <= MAX_WEIGHTS
        and id(p) not in embeddings
        and not is_sharded(p)
    ]
    every = max(1, len(matrices) // MAX_MATRICES)
    return matrices[::every][:MAX_MATRICES]
