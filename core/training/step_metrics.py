"""What is measured while a step is made: the update ratio and the fraction of dead ReLU units."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core import events as ev
from tui_lab.core.model import Layer
from tui_lab.core.training.checkpoint import Progress

LOSS_EMA = 0.9
"""The weight of the past in the running mean of the loss."""
UPDATE_RATIO_EVERY = 10
"""Steps between measurements: copying the weights at every step would cost the small models a few percent."""
DEAD_UNITS_EVERY = 50
"""Steps between measurements: units die over hundreds of steps, and each measurement costs a small model time."""


@dataclass(frozen=True, kw_only=True)
class StepMetrics:
    """One step. loss in nats per target; grad_norm before clipping; tokens of all processes; seconds of the whole step.

    The last three are measured every few steps and otherwise None: data_seconds is the part of `seconds` spent on the
    batch, update_ratio see `watch_update`, dead_units see `watch_dead_units`.
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


def step_done(progress: Progress, metrics: StepMetrics) -> ev.StepDone:
    """The event for the step that has just been made; `progress` counts it already."""
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
    )


@torch.no_grad()
def watch_update(model: nn.Module) -> Callable[[], float]:
    """Copy the weights before an update; the returned function, called after it, returns ‖Δw‖ / ‖w‖.

    Only the layers' matrices count: most rows of the embeddings and the head do not occur in a batch. About 1e-3 is
    healthy for Adam (Karpathy 2022, "Building makemore" part 3); far below it the model does not learn, far above it
    each update overwrites the last.
    """
    weights = [p for name, p in model.named_parameters() if p.dim() == 2 and name.startswith("layers.")]
    before = [p.detach().clone() for p in weights]

    @torch.no_grad()
    def ratio() -> float:
        size = _norm(before)
        return float(_norm([p - old for p, old in zip(weights, before, strict=True)]) / size) if size > 0 else 0.0

    return ratio


def _norm(tensors: list[Tensor]) -> Tensor:
    return torch.nn.utils.get_total_norm(tensors)


def watch_dead_units(model: nn.Module) -> Callable[[], float | None]:
    """Hook the feed-forward layers before a forward pass; the returned function, called after it, returns the fraction
    of units that were zero for every token of the batch, over all layers, or None if the model has no `Layer`."""
    dead: list[Tensor] = []

    def record(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        dead.append((inputs[0].detach() == 0).flatten(0, -2).all(dim=0))  # [d_ff]

    handles = [m.W_2.register_forward_pre_hook(record) for m in model.modules() if isinstance(m, Layer)]

    def share() -> float | None:
        for handle in handles:
            handle.remove()
        return float(sum(d.float().mean() for d in dead) / len(dead)) if dead else None

    return share
