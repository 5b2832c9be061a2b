"""Can the loss of a script be computed for some rows of its batch?"""

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.batch import n_rows
from tui_lab.core.doctor.program.nested import at, mapped, tensors_of
from tui_lab.core.doctor.script.capture import CapturedStep
from tui_lab.core.doctor.script.tape import Tape
from tui_lab.core.watch.model.unchanged_rng import unchanged_rng

SAME_DIRECTION = 0.99
"""Cosine above which a half's loss has the gradient of the batch's: 1 for any weights of rows, −1 where they swap."""


def row_constants(tape: Tape, rows: int) -> dict[int, Tensor]:
    """Return the snapshots of the tape that have as many rows as the batch, by number."""
    return {i: tensor for i, tensor in tape.snapshots.items() if tensor.dim() and len(tensor) == rows}


def splits_into_rows(step: CapturedStep, modules: Sequence[nn.Module]) -> bool:
    """Return whether the loss of a batch is the mean, a weighted mean or the sum of those of its halves."""
    tape = step.tape
    call = step.call
    if tape is None or call is None or (step.form is not None and step.form.time_first):
        return False
    module = modules[step.module]
    arguments = step.inputs[call]
    rows = n_rows(arguments)
    constants = row_constants(tape, rows)
    training = [part for part in module.modules() if part.training]
    module.eval()

    def loss_of(output: Any, start: int, end: int) -> Tensor:
        # Only what has as many rows as the batch is cut.
        cut = partial(_rows_between, rows=rows, start=start, end=end)
        inputs = {**step.inputs, call: mapped(arguments, cut)}
        return tape.replay(modules, inputs, mapped(output, cut), mapped(constants, cut))

    try:
        with unchanged_rng(), torch.no_grad(), autocast_of(step.autocast, module):
            output = module(*arguments[0], **arguments[1])
            if not _has_rows(output, tape, rows):
                return False
            whole, first, second = (float(loss_of(output, *part)) for part in _halves(rows))
        is_sum = math.isclose(whole, first + second, rel_tol=1e-3)
        if not is_sum and not min(first, second) - 1e-3 <= whole <= max(first, second) + 1e-3:
            return False
        with unchanged_rng(), torch.enable_grad():
            return tape.differentiates or _are_alike(output, loss_of, rows)
    except Exception:  # Sizes that are written in the script, or a loss that compares all rows.
        return False
    finally:
        for part in training:
            part.training = True


def _halves(rows: int) -> tuple[tuple[int, int], ...]:
    """Return the first and last row of the batch and of its halves."""
    return (0, rows), (0, rows // 2), (rows // 2, rows)


def _are_alike(output: Any, loss_of: Callable[[Any, int, int], Tensor], rows: int) -> bool:
    """Return whether the loss of each half changes with its outputs as that of the batch does.

    Where it compares rows, as a loss of preferences does, the values may be equal by chance: before the first update
    that loss is ln 2 for whatever rows.
    """
    floats = [tensor for tensor in tensors_of(output) if tensor.is_floating_point()]
    leaves = [tensor.detach().requires_grad_() for tensor in floats]
    leaf_of = dict(zip(map(id, floats), leaves, strict=True))

    def gradients(start: int, end: int) -> Sequence[Tensor | None]:
        # A function on the tape may change the output in place, which is forbidden for a leaf.
        copied = mapped(output, lambda tensor: leaf_of[id(tensor)].clone() if id(tensor) in leaf_of else tensor)
        return torch.autograd.grad(loss_of(copied, start, end), leaves, allow_unused=True)

    whole, *halves = (gradients(*part) for part in _halves(rows))
    for (start, end), half in zip(_halves(rows)[1:], halves, strict=True):
        for of_whole, of_half in zip(whole, half, strict=True):
            if of_whole is None or of_half is None or of_whole.dim() == 0 or len(of_whole) != rows:
                continue
            here, there = of_whole[start:end].flatten().double(), of_half[start:end].flatten().double()
            if bool(here.any()) and float(torch.cosine_similarity(here, there, dim=0)) < SAME_DIRECTION:
                return False
    return True


def _has_rows(output: Any, tape: Tape, rows: int) -> bool:
    """Return whether what the loss uses of the output has a row for each of the batch; logits [B·T, V] have not."""
    used = [tensor for reference in tape.outputs for tensor in tensors_of(at(output, reference.path))]
    return all(not tensor.dim() or len(tensor) == rows for tensor in used)


def _rows_between(tensor: Tensor, *, rows: int, start: int, end: int) -> Tensor:
    return tensor[start:end] if tensor.dim() and len(tensor) == rows else tensor


@contextlib.contextmanager
def autocast_of(dtype: torch.dtype | None, model: nn.Module) -> Iterator[None]:
    """Switch autocast on as it was when the script called the model."""
    if dtype is None:
        yield
        return
    device = next((p.device.type for p in model.parameters()), "cpu")
    # Within another autocast context, such as one of the script, the cached casts would outlive changes of the weights.
    with torch.autocast(device, dtype, cache_enabled=False):
        yield
