"""Calls of a program that differentiates within its model or loss, also where a check wants no gradients.

A gradient penalty (Gulrajani et al. 2017), a physics-informed loss and a Hamiltonian network call torch.autograd.grad
themselves, which fails within torch.no_grad().
"""

from collections.abc import Callable
from typing import TypeVar

import torch

from tui_lab.core.doctor.program.nested import mapped

T = TypeVar("T")
NO_GRAPH = "does not require grad"
"""In torch's message where torch.autograd.grad gets a tensor without a graph."""


def with_needed_gradients(call: Callable[[], T]) -> T:
    """Return what `call` returns; if it fails for want of gradients, call it again with them, and detach the result."""
    if torch.is_grad_enabled():
        return call()
    try:
        return call()
    except RuntimeError as error:
        if NO_GRAPH not in str(error):
            raise
    with torch.enable_grad():
        result: T = mapped(call(), lambda tensor: tensor.detach())
    return result
