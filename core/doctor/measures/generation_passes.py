"""The passes that a model makes while a method of it writes tokens, each of them the most likely one."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.program.tokens import logits_in

MAX_PASSES = 16


@dataclass(frozen=True, eq=False)
class Pass:
    """One outermost pass of a module: ids [B, L], logits [B, ·, V], and the other ids that it looked up in tables."""

    module: nn.Module
    ids: Tensor
    logits: Tensor
    looked_up: tuple[Tensor, ...] = ()


class EnoughPassesError(Exception):
    """Ends a generation after MAX_PASSES passes."""


@contextmanager
def recorded_passes(model: nn.Module) -> Iterator[list[Pass]]:
    """Collect the outermost calls of modules that map ids to logits, while each draw takes the most likely token."""
    passes: list[Pass] = []
    depth = 0

    def enter(module: nn.Module, args: Any) -> None:
        nonlocal depth
        depth += 1
        if depth == 1 and len(passes) >= MAX_PASSES:
            raise EnoughPassesError
        if depth == 1:
            greedy.looked_up.clear()

    def leave(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            own = _pass(module, (*args, *kwargs.values()), output, greedy.looked_up)
            passes.extend([own] if own is not None else [])

    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, with_kwargs=True, always_call=True))
    try:
        with _Greedy() as greedy:
            yield passes
    finally:
        for handle in handles:
            handle.remove()


def _pass(module: nn.Module, arguments: tuple[Any, ...], output: Any, looked_up: list[Tensor]) -> Pass | None:
    """Return what a call did; None if it does not map ids to logits."""
    ids = next((value for value in arguments if _is_ids(value)), None)
    if ids is None:
        return None
    try:
        logits = logits_in(output)
    except (AttributeError, KeyError, TypeError, IndexError, ValueError):
        return None
    if not logits.is_floating_point() or logits.dim() not in (2, 3):
        return None
    logits = logits if logits.dim() == 3 else logits[:, None]
    others = tuple(one for one in looked_up if not torch.equal(one, ids))
    return Pass(module, ids.clone(), logits.detach().clone(), others)


def _is_ids(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2 and value.dtype in (torch.int64, torch.int32)


class _Greedy(TorchFunctionMode):
    """Replaces each draw by the most likely token, and keeps the ids that are looked up in tables."""

    def __init__(self) -> None:
        super().__init__()
        self.looked_up: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name == "multinomial":
            count = kwargs.get("num_samples", args[1] if len(args) > 1 else 1)
            return args[0].topk(count, dim=-1).indices
        if name == "exponential_":
            return args[0].fill_(1.0)
        if func is F.embedding and isinstance(args[0], Tensor):
            self.looked_up.append(args[0].clone())
        return func(*args, **kwargs)
