"""torch's optimizers without its compiler.

torch imports torch._dynamo, with sympy and torch.distributed.fsdp, when the first optimizer is built. That takes as
long as importing torch, and 70 MiB, for annotations that only compiled training reads, and nothing is compiled here.
These classes have torch's own methods without those wrappers. The wrapper of `step` also turns gradients off, which
`torch.no_grad` does here. Where a later torch has no wrappers, unwrapping changes nothing.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.optim import Optimizer

F = TypeVar("F", bound=Callable[..., Any])


def unwrapped(method: F) -> F:
    return cast(F, inspect.unwrap(method))


class Unwrapped(Optimizer):
    """An optimizer whose methods, apart from `step`, do not import the compiler."""

    add_param_group = unwrapped(Optimizer.add_param_group)
    load_state_dict = unwrapped(Optimizer.load_state_dict)
    state_dict = unwrapped(Optimizer.state_dict)
    zero_grad = unwrapped(Optimizer.zero_grad)


class Adam(Unwrapped, torch.optim.Adam):
    step = torch.no_grad()(unwrapped(torch.optim.Adam.step))


class AdamW(Unwrapped, torch.optim.AdamW):
    step = torch.no_grad()(unwrapped(torch.optim.AdamW.step))


class SGD(Unwrapped, torch.optim.SGD):
    step = torch.no_grad()(unwrapped(torch.optim.SGD.step))


class Muon(Unwrapped, torch.optim.Muon):
    step = torch.no_grad()(unwrapped(torch.optim.Muon.step))
