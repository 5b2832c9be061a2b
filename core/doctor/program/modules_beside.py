"""Modules that a loop calls beside its model and trains on purpose in another way, or not at all: a target network.

As of Q-learning (Mnih et al. 2015), a teacher, or the random network of exploration (Burda et al. 2019). A second part
of the model that was forgotten gets gradients, and is not a copy of the first.
"""

import torch
from torch import nn

from tui_lab.core.doctor.program.once import once_per_target
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.watch.model.model_search import parameters_of


@once_per_target
def names_needing_no_optimizer(target: Target) -> set[str]:
    """Return the names of the parameters of all modules of a script that need no optimizer.

    No optimizer holds any of their parameters, and they get no gradient in the loop, or have the structure and the
    initial weights of a module that an optimizer holds.
    """
    if target.record is None or type(target.model) is not nn.ModuleList:
        return set()
    held = {id(p) for p in parameters_of(target.optimizers)}
    ids_with_gradient = {id(p) for p in target.record.with_gradient}
    names: set[str] = set()
    trained = [module for module in target.model if any(id(p) in held for p in module.parameters())]
    for number, module in enumerate(target.model):
        parameters = dict(module.named_parameters())
        if any(id(p) in held for p in parameters.values()):
            continue
        gets_gradient = any(id(p) in ids_with_gradient for p in parameters.values())
        if not gets_gradient or any(is_copy(module, other) for other in trained):
            names |= {f"{number}.{name}" for name in parameters}
    return names


def is_copy(module: nn.Module, other: nn.Module) -> bool:
    """Return whether two modules have equal parameters of the same names."""
    first, second = dict(module.named_parameters()), dict(other.named_parameters())
    return first.keys() == second.keys() and all(
        p.shape == second[name].shape and torch.equal(p, second[name]) for name, p in first.items()
    )
