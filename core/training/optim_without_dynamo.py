"""torch's optimizers without its compiler.

torch 2.13 imports torch._dynamo, with sympy and torch.distributed.fsdp, where the first optimizer is made: as long as
torch itself takes, and 70 MiB, for marks that only compiled training reads. The lab compiles nothing. These are torch's
own methods, unwrapped; only the gradient mode, which the wrapper of `step` also set, is set here.
"""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch.optim import Optimizer

F = TypeVar("F", bound=Callable[..., Any])


def eager(method: F) -> F:
    return cast(F, inspect.unwrap(method))


class _Eager(Optimizer):
    add_param_group = eager(Optimizer.add_param_group)
    load_state_dict = eager(Optimizer.load_state_dict)
    state_dict = eager(Optimizer.state_dict)
    zero_grad = eager(Optimizer.zero_grad)


class Adam(_Eager, torch.optim.Adam):
    step = torch.no_grad()(eager(torch.optim.Adam.step))


class AdamW(_Eager, torch.optim.AdamW):
    step = torch.no_grad()(eager(torch.optim.AdamW.step))


class SGD(_Eager, torch.optim.SGD):
    step = torch.no_grad()(eager(torch.optim.SGD.step))


class Muon(_Eager, torch.optim.Muon):
    step = torch.no_grad()(eager(torch.optim.Muon.step))
