"""Switches off dropout, also that which functions apply."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from tui_lab.core.model import set_dropout


class _NoDropout(TorchFunctionMode):
    """Calls of dropout return their input; attention functions get a rate of 0."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        if func is nn.functional.scaled_dot_product_attention:
            args = (*args[:4], 0.0, *args[5:]) if len(args) > 4 else args
            kwargs = {**kwargs, "dropout_p": 0.0} if "dropout_p" in kwargs else kwargs
        return func(*args, **kwargs)


_DROPOUTS = {
    nn.functional.dropout,
    nn.functional.dropout1d,
    nn.functional.dropout2d,
    nn.functional.dropout3d,
    nn.functional.alpha_dropout,
    nn.functional.feature_alpha_dropout,
    torch.dropout,
    torch.dropout_,
}


@contextmanager
def without_dropout(model: nn.Module) -> Iterator[None]:
    """Let no dropout act: not that of modules, which stays off, nor the functions that are called within."""
    set_dropout(model, 0.0)
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.dropout = 0.0
    with _NoDropout():
        yield
