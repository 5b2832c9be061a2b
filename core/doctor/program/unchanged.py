"""Restores a program that checks have used, although they are given copies: user code may reach the originals."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from tui_lab.core.doctor.program.target import Target
from tui_lab.core.doctor.program.update_state import UpdateState
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng


@contextmanager
def unchanged_model(model: nn.Module) -> Iterator[None]:
    """Restore parameters, buffers and modes at the end; lazy ones that were initialized meanwhile stay so."""
    tensors = (*model.parameters(), *model.buffers())
    before = [(t, t.detach().clone()) for t in tensors if not is_lazy(t)]
    modes = {module: module.training for module in model.modules()}
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in before:
                if tensor.shape == value.shape:
                    tensor.copy_(value)
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def unchanged_program(target: Target) -> Iterator[UpdateState]:
    """Restore the model, the optimizers, what the update keeps between its calls, and the generators of random numbers.

    Yields what the update keeps.
    """
    # A scheduler of the update may set the rates of the optimizers that it was created with.
    holders = [target.update, *(optimizer.param_groups for optimizer in target.optimizers)]
    restored_here = (*target.model.modules(), *target.model.parameters(), *target.optimizers)
    update_state = UpdateState(holders, exclude=restored_here)
    gradients = [(p, p.grad) for p in target.model.parameters()]
    groups = [(group, dict(group)) for optimizer in target.optimizers for group in optimizer.param_groups]
    states = [{p: dict(state) for p, state in optimizer.state.items()} for optimizer in target.optimizers]
    try:
        with unchanged_rng(), unchanged_model(target.model):
            yield update_state
    finally:
        for p, gradient in gradients:
            p.grad = gradient
        for group, settings in groups:
            group.update(settings)
        for optimizer, state in zip(target.optimizers, states, strict=True):
            optimizer.state.clear()
            optimizer.state.update(state)
        update_state.restore()
