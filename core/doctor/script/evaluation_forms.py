"""Does a model return less in evaluation mode than its loss uses, such as no auxiliary heads?"""

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tui_lab.core.doctor.program.nested import tensors_in
from tui_lab.core.doctor.script.capture import CapturedStep
from tui_lab.core.doctor.script.parts import ScriptParts
from tui_lab.core.user_code.import_file import seed_everything
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng


def with_modes(parts: ScriptParts, model: nn.Module) -> ScriptParts:
    """Return the parts with what modes the model needs. Cost: one to three forward passes of its first batch."""
    step = parts.steps[0]
    if step.call is None or not step.training:
        return parts
    called = parts.modules(model)[step.module]
    modes = {module: module.training for module in model.modules()}
    try:
        with unchanged_rng(), torch.no_grad():
            model.eval()
            if _has_used(_output(step, called), step):
                return parts
            called.training = True
            first = _output(step, called, seed=1)
            # With random numbers in its own forward, the outputs of two passes could not be compared.
            follows = called is model and _has_used(first, step) and _are_equal(first, _output(step, called, seed=2))
            return replace(parts, needs_training=True, follows_flag=follows)
    except Exception:  # Of the user's model, such as one that needs targets in evaluation: its checks will tell.
        return parts
    finally:
        for module, mode in modes.items():
            module.training = mode


def _output(step: CapturedStep, model: nn.Module, seed: int = 0) -> Any:
    seed_everything(seed)
    assert step.call is not None
    args, kwargs = step.inputs[step.call]
    return model(*args, **kwargs)


def _has_used(output: Any, step: CapturedStep) -> bool:
    """Return whether an output has each tensor that the loss of a step uses, with as many axes."""
    used = None if step.tape is None else {reference.path for reference in step.tape.outputs}
    needed = {(path, n_axes) for path, n_axes in step.returned if used is None or path in used}
    return needed <= {(path, tensor.dim()) for path, tensor in tensors_in(output)}


def _are_equal(first: Any, second: Any) -> bool:
    tensors = zip(tensors_in(first), tensors_in(second), strict=True)
    return all(torch.equal(one, other) for (_, one), (_, other) in tensors)
