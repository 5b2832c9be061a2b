"""Switches off dropout, also that which functions apply."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.model import set_dropout

_DROPOUTS: frozenset[Any] = frozenset((
    F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
    torch.dropout, torch.dropout_, torch.alpha_dropout, torch.alpha_dropout_, torch.feature_dropout,
    torch.feature_dropout_, torch.feature_alpha_dropout, torch.feature_alpha_dropout_,
))  # fmt: skip
_RATES: dict[Any, int] = {F.scaled_dot_product_attention: 4, F.multi_head_attention_forward: 10}
"""Where functions get a rate: their argument `dropout_p`."""
_SWITCHED = _DROPOUTS | frozenset(_RATES)
"""All others are called as they are, and quickly: in a small model, an update has hundreds of them."""


@contextmanager
def without_dropout(model: nn.Module | None = None) -> Iterator[None]:
    """Let no function that is called within apply dropout, in any mode.

    model: its modules lose their rates, which stay off, those of recurrent layers among them: no function shows these.
    """
    if model is not None:
        set_dropout(model, 0.0)
        for module in model.modules():
            if isinstance(module, nn.RNNBase):
                module.dropout = 0.0
    with _NoDropout():
        yield


class _NoDropout(TorchFunctionMode):
    """Calls of dropout return their input; attention functions get a rate of 0."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _SWITCHED:
            return func(*args, **kwargs) if kwargs else func(*args)
        kwargs = kwargs or {}
        if func in _DROPOUTS:
            return args[0] if args else kwargs["input"]
        place = _RATES[func]
        if len(args) > place:
            args = (*args[:place], 0.0, *args[place + 1 :])
        else:
            kwargs = {**kwargs, "dropout_p": 0.0}
        return func(*args, **kwargs)
