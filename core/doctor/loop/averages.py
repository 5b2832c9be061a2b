"""Finds averaged copies of a model, and whether their buffers follow those of the model."""

import weakref
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from tui_lab.core.doctor.loop.observed import AveragedCopy
from tui_lab.core.watch.model.model_calls import is_sharded
from tui_lab.core.watch.variables.script_objects import instances_of

SEARCH_AT = 3
"""The update after which copies are looked for; the model must have been found."""
MAX_ELEMENTS = 2**24
"""Parameters of the largest model whose copies are compared."""
MIN_ALONG = 0.3
"""Cosine between the changes of a copy's parameters and the model's, from which it follows the model. Of an average
with decay 0.95 and 0.999 over 50 updates of SGD and Adam it is 0.7 to 1.0."""


@dataclass
class _Copy:
    """A module of the model's structure, and its values when it was found. line: of its latest call."""

    module: weakref.ref[nn.Module]
    parameters: list[Tensor]
    buffers: dict[str, Tensor]
    is_torch: bool
    n_stale_evaluations: int = 0
    line: str = ""


class AverageWatch:
    """Call `search` once the model has been trained a little, then `called`, and `results` at the end."""

    def __init__(self) -> None:
        self._model: nn.Module | None = None
        self._start: list[Tensor] = []
        """The model's parameters at the search."""
        self._buffers: dict[str, Tensor] = {}
        """The model's buffers at the search."""
        self._copies: list[_Copy] = []
        self._search_update = 0

    def search(self, model: nn.Module, number: int) -> None:
        """Look for modules with the structure of `model`. number: of the update."""
        buffers = _float_buffers(model)
        n_elements = sum(p.numel() for p in model.parameters())
        if self._model is not None or not buffers or n_elements > MAX_ELEMENTS or is_sharded(model):
            return
        self._model = model
        self._search_update = number
        own_modules = {id(module) for module in model.modules()}
        modules = [module for module in instances_of(nn.Module) if id(module) not in own_modules]
        averaged = {id(m) for module in modules if isinstance(module, AveragedModel) for m in module.modules()}
        structure = _structure(model)
        for module in modules:
            if type(module) is type(model) and _structure(module) == structure:
                values = [p.detach().clone() for p in module.parameters()]
                is_torch = id(module) in averaged
                self._copies.append(_Copy(weakref.ref(module), values, _copied(_float_buffers(module)), is_torch))
        if self._copies:
            self._start = [p.detach().clone() for p in model.parameters()]
            self._buffers = _copied(buffers)

    def called(self, module: nn.Module, line: str) -> None:
        """A module was called without gradients."""
        for copy in self._copies:
            copied = copy.module()
            if copied is not None and (copied is module or _holds(module, copied)) and not copied.training:
                copy.line = line
                copy.n_stale_evaluations += bool(self._stale(copy, copied))

    def results(self, number: int) -> tuple[AveragedCopy, ...]:
        """Return the copies that followed the model until update `number`."""
        return tuple(self._results(number))

    def _results(self, number: int) -> Iterator[AveragedCopy]:
        model = self._model
        if model is None or not self._copies:
            return
        change = _difference(list(model.parameters()), self._start)
        for copy in self._copies:
            module = copy.module()
            if module is None or _cosine(_difference(list(module.parameters()), copy.parameters), change) < MIN_ALONG:
                continue
            stale = self._stale(copy, module)
            buffers = _float_buffers(model)
            gap = sum(float((buffers[name] - copy.buffers[name]).norm()) for name in stale)
            size = sum(float(buffers[name].norm()) for name in stale)
            yield AveragedCopy(
                kind=type(module).__name__,
                stale=stale,
                n_updates=number - self._search_update,
                n_evaluations=copy.n_stale_evaluations,
                is_torch=copy.is_torch,
                distance=gap / size if size else 0.0,
                line=copy.line,
            )

    def _stale(self, copy: _Copy, module: nn.Module) -> tuple[str, ...]:
        """Return the names of buffers of the copy that have not changed, although the model's have."""
        assert self._model is not None
        of_model = _float_buffers(self._model)
        of_copy = _float_buffers(module)
        return tuple(
            name
            for name, start in self._buffers.items()
            if not torch.equal(of_model[name], start) and torch.equal(of_copy[name], copy.buffers[name])
        )


def _holds(module: nn.Module, part: nn.Module) -> bool:
    return any(child is part for child in module.children())


def _float_buffers(module: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def _structure(module: nn.Module) -> object:
    try:
        types = [(name, type(part)) for name, part in module.named_modules()]
        return types, [(name, p.shape, p.dtype, p.device) for name, p in module.named_parameters()]
    except Exception:  # A module may be half built.
        return None


def _difference(now: list[Tensor], before: list[Tensor]) -> list[Tensor]:
    return [a.detach().double() - b.double() for a, b in zip(now, before, strict=True)]


def _cosine(a: list[Tensor], b: list[Tensor]) -> float:
    product = sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))
    size = sum(float((x * x).sum()) for x in a) * sum(float((y * y).sum()) for y in b)
    return product / size**0.5 if size > 0 else 0.0
