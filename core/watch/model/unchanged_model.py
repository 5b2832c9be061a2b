"""Leave the script's model as it is while it is called for us."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import nn
from torch.autograd.grad_mode import _unsafe_preserve_version_counter


@contextmanager
def gradients_set_aside(model: nn.Module) -> Iterator[None]:
    """Leave the parameters without gradients in the block, and give them theirs back."""
    gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
    for parameter, _ in gradients:
        parameter.grad = None
    try:
        yield
    finally:
        for parameter, gradient in gradients:
            parameter.grad = gradient


@contextmanager
def unchanged_buffers(model: nn.Module) -> Iterator[None]:
    """Restore the values of all buffers: a forward pass may count or cache in them."""
    buffers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    # The script's own backward pass may need a buffer, and refuses one that has a new version.
    with ExitStack() as stack:
        for buffer, _ in buffers:
            stack.enter_context(_unsafe_preserve_version_counter(buffer))
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)


@contextmanager
def unchanged_attributes(model: nn.Module) -> Iterator[None]:
    """Restore what the attributes of all modules refer to."""
    attributes = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]
    try:
        yield
    finally:
        for module, values, buffers in attributes:
            vars(module).clear()
            vars(module).update(values)
            module._buffers.clear()
            module._buffers.update(buffers)
