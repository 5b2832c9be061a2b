"""Measurements by layer while a model trains: gradient norm, update-to-weight ratio, and dead ReLU units.

Layers are identified by the names of parameters and modules, so this works for any model with a list of layers.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from tui_lab.core.kernels.device import HostCopy, to_device
from tui_lab.core.model import Layer
from tui_lab.core.training.train_step import global_norm

ByLayer = dict[str, dict[str, float]]
"""The values of each measurement by layer: {"grad_norm": {"layers.0": 0.31, …}, …}."""
MEASUREMENTS = ("grad_norm", "update_ratio", "dead_units")
LAYERS_EVERY = 50
"""Steps between measurements by layer: of 1,000 steps, each layer has 20 points."""
MAX_LAYERS = 128
"""A model with more layers is not measured by layer: a line of the event log would become too long."""
_WRAPPERS = re.compile(r"^(?:(?:inner|module|_orig_mod)\.)+")
"""What ExternalModel, DistributedDataParallel and torch.compile put in front of a name."""
_FIRST_NUMBER = re.compile(r"((?:[^.]+\.)*?\d+)(?:\.|$)")


def layer_name(name: str) -> str | None:
    """Return the layer of a parameter or module: its name up to the first number, None if it has no number.

    "layers.3.W_1.weight" belongs to "layers.3", "transformer.h.0.attn.c_attn.bias" to "transformer.h.0".
    """
    match = _FIRST_NUMBER.match(_WRAPPERS.sub("", name))
    return match.group(1) if match else None


def parameters_by_layer(model: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of each layer in the model's order; embeddings and a head are in none of them.

    Empty for a model with more than `MAX_LAYERS` layers.
    """
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        layer = layer_name(name)
        if layer is not None:
            layers.setdefault(layer, []).append(parameter)
    return layers if len(layers) <= MAX_LAYERS else {}


@torch.no_grad()
def gradient_norms(model: nn.Module) -> dict[str, Tensor]:
    """Return the norm of the gradient of each layer, [] each; layers without a gradient are left out.

    Norms that shrink or grow from layer to layer are vanishing or exploding gradients (Glorot and Bengio 2010).
    """
    norms = {}
    for layer, parameters in parameters_by_layer(model).items():
        gradients = [p.grad for p in parameters if p.grad is not None]
        if gradients:
            norms[layer] = global_norm(gradients)
    return norms


Ratios = tuple[float | None, dict[str, float]]
"""The ratio over all layers, None for a model without layers; and the ratio of each layer."""


class UpdateRatios:
    """Measures ‖Δw‖ / ‖w‖ of an update: create it before, call `measure` after it, then `read`.

    Only the layers' matrices count: most rows of the embeddings and the head do not occur in a batch. About 1e-3 is
    healthy for Adam (Karpathy 2022, "Building makemore" part 3); far below it the model does not learn, far above it
    each update overwrites the last.
    """

    @torch.no_grad()
    def __init__(self, model: nn.Module) -> None:
        layers = {layer: [p for p in each if p.dim() >= 2] for layer, each in parameters_by_layer(model).items()}
        self._names = [layer for layer, matrices in layers.items() for _ in matrices]
        self._weights = [p.detach() for matrices in layers.values() for p in matrices]
        self._before = [p.clone() for p in self._weights]
        self._ratios: HostCopy | None = None

    @torch.no_grad()
    def measure(self) -> None:
        """Compute the ratios, without waiting for the device."""
        before = self._before
        if before:
            sizes = torch.stack(torch._foreach_norm(before))
            torch._foreach_sub_(before, self._weights)
            changes = torch.stack(torch._foreach_norm(before))
            self._ratios = HostCopy(ratios_of(self._names, changes, sizes))
        self._before = []

    def read(self) -> Ratios:
        """Return the ratios."""
        if self._ratios is None:
            return None, {}
        total, *each = self._ratios.read().tolist()
        return total, dict(zip(dict.fromkeys(self._names), each, strict=True))


def ratios_of(names: list[str], changes: Tensor, sizes: Tensor) -> Tensor:
    """Return ‖Δw‖ / ‖w‖ over all matrices, then of each layer, [1 + L].

    names: the layer of each of the N matrices. changes, sizes: the norms of their changes and of themselves, [N] each.
    A ratio to weights that are all zero is 0.
    """
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    layers = to_device(np.array([numbers[name] for name in names], dtype=np.int64), sizes.device)
    squares = torch.stack([changes, sizes]).square()  # [2, N]
    by_layer = squares.new_zeros(2, len(numbers)).index_add_(1, layers, squares)
    change, size = torch.cat([squares.sum(dim=1, keepdim=True), by_layer], dim=1).sqrt()
    return torch.where(size > 0, change / size, 0.0)


class DeadUnits:
    """Watches the ReLUs of a model during one step: those of our `Layer`, and the nn.ReLU modules of other models.

    A unit is dead if it is zero for every token of the batch: no gradient reaches its weights (Lu et al. 2019, "Dying
    ReLU and initialization").
    """

    def __init__(self, model: nn.Module) -> None:
        self._dead: dict[str, Tensor] = {}
        """Which units are dead, bool [units], by the name of the module."""
        self._handles: list[RemovableHandle] = []
        for name, module in model.named_modules():
            if isinstance(module, Layer):
                self._handles.append(module.W_2.register_forward_pre_hook(partial(self._record_input, name)))
            elif isinstance(module, nn.ReLU):
                self._handles.append(module.register_forward_hook(partial(self._record_output, name)))

    def _record_input(self, name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._record(name, inputs[0])

    def _record_output(self, name: str, module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        self._record(name, output)

    def _record(self, name: str, activations: Tensor) -> None:
        if activations.dim() < 2 or not torch.is_grad_enabled():
            return
        dead = (activations.detach() == 0).flatten(0, -2).all(dim=0)
        earlier = self._dead.get(name)  # Of another micro-batch.
        self._dead[name] = dead if earlier is None or earlier.shape != dead.shape else earlier & dead

    def shares(self) -> dict[str, Tensor]:
        """Remove the hooks; return the fraction of dead units of each module that was called, [] each, by its name."""
        for handle in self._handles:
            handle.remove()
        return {name: dead.float().mean() for name, dead in self._dead.items()}


Number = TypeVar("Number", float, Tensor)


def means_by_layer(shares: Mapping[str, Number]) -> dict[str, Number]:
    """Return the mean over the modules of each layer; shares: by the name of the module."""
    layers: dict[str, list[Number]] = {}
    for name, share in shares.items():
        layer = layer_name(name)
        if layer is not None:
            layers.setdefault(layer, []).append(share)
    if len(layers) > MAX_LAYERS:
        return {}
    return {layer: sum(each[1:], start=each[0]) / len(each) for layer, each in layers.items()}


def rounded(measurements: Mapping[str, Mapping[str, float]]) -> ByLayer | None:
    """Return the measurements that have values, with four significant digits as they are recorded; None if none has."""
    some = {
        measurement: {layer: float(f"{value:.4g}") for layer, value in values.items()}
        for measurement, values in measurements.items()
        if values
    }
    return some or None
