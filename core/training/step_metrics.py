"""What is measured while a step is made, every few steps: update ratio, dead ReLU units, and both by layer."""

from dataclasses import dataclass
from typing import TypedDict

import torch
from torch import nn

from tui_lab.core import events as ev
from tui_lab.core.kernels.device import HostCopy
from tui_lab.core.training.checkpoint import Progress
from tui_lab.core.training.layer_metrics import (
    LAYERS_EVERY,
    ByLayer,
    DeadUnits,
    UpdateRatios,
    gradient_norms,
    means_by_layer,
    rounded,
)

UPDATE_RATIO_EVERY = 10
"""Steps between measurements: copying the weights at every step would cost the small models a few percent."""
DEAD_UNITS_EVERY = 50
"""Steps between measurements: units die over hundreds of steps, and each measurement costs a small model time."""


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """One step. loss in nats per target; grad_norm before clipping; tokens of all processes; seconds of the whole step.

    The last four are measured every few steps and otherwise None: data_seconds is the part of `seconds` spent on the
    batch, the others see `Measured`.
    """

    loss: float
    grad_norm: float
    lr: float
    epoch: int
    tokens: int
    seconds: float
    data_seconds: float | None = None
    update_ratio: float | None = None
    dead_units: float | None = None
    by_layer: ByLayer | None = None


def step_done(progress: Progress, metrics: StepMetrics) -> ev.StepDone:
    """Return the event for the step that has just been made; `progress` counts it already."""
    assert progress.loss_ema is not None
    return ev.StepDone(
        step=progress.step,
        loss=metrics.loss,
        loss_ema=progress.loss_ema,
        lr=metrics.lr,
        grad_norm=metrics.grad_norm,
        epoch=metrics.epoch,
        tokens=progress.tokens,
        seconds=metrics.seconds,
        tokens_per_s=metrics.tokens / metrics.seconds if metrics.seconds > 0 else 0.0,
        update_ratio=metrics.update_ratio,
        dead_units=metrics.dead_units,
        data_seconds=metrics.data_seconds,
        by_layer=metrics.by_layer,
    )


class Measured(TypedDict):
    """update_ratio: see `UpdateRatios`; dead_units: the mean over all layers, see `DeadUnits`; by_layer: see `ByLayer`.

    None where it was not measured at this step, or where the model has no layers or no ReLU modules.
    """

    update_ratio: float | None
    dead_units: float | None
    by_layer: ByLayer | None


class StepMeasurements:
    """Measures around one update: create it before the forward pass, then call its methods in their order.

    Only `read`, which comes last, waits for the device. Nothing is changed: gradients are only read, weights copied.
    """

    def __init__(self, model: nn.Module, step: int) -> None:
        self._model = model
        self._measures_layers = step % LAYERS_EVERY == 0
        self._measures_ratio = step % UPDATE_RATIO_EVERY == 0
        self._watched_units = DeadUnits(model) if step % DEAD_UNITS_EVERY == 0 else None
        self._dead_units = _Numbers({})

    def before_update(self) -> None:
        """Read the gradients before they are clipped, and copy the weights."""
        self._norms = _Numbers(gradient_norms(self._model) if self._measures_layers else {})
        self._ratios = UpdateRatios(self._model) if self._measures_ratio else None

    def after_update(self) -> None:
        """Measure what the update has changed."""
        if self._watched_units is not None:
            self._dead_units = _Numbers(self._watched_units.shares())
        if self._ratios is not None:
            self._ratios.measure()

    def read(self) -> Measured:
        """Return what was measured at this step."""
        dead = self._dead_units.read()
        ratio, ratios = (None, {}) if self._ratios is None else self._ratios.read()
        by_layer = {"grad_norm": self._norms.read(), "update_ratio": ratios, "dead_units": means_by_layer(dead)}
        return Measured(
            update_ratio=ratio,
            dead_units=sum(dead.values()) / len(dead) if dead else None,
            by_layer=rounded(by_layer) if self._measures_layers else None,
        )


class _Numbers:
    """Tensors [] by name, read together."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        self._names = list(tensors)
        self._values = HostCopy(torch.stack(list(tensors.values()))) if tensors else None

    def read(self) -> dict[str, float]:
        return {} if self._values is None else dict(zip(self._names, self._values.read().tolist(), strict=True))
