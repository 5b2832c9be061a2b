"""Does the model return finite logits of the right shape? Cost: two forward passes, one of a whole row."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.batch import first_rows
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import Target


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    try:
        with target.evaluating(), torch.no_grad():
            logits = target.logits_of(target.probe.batch)
            # The probe may be cut: a position table that is too short shows only in a whole row.
            target.logits_of(first_rows(target.batch(0), 1))
    except Exception as error:
        yield _fails(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
        return
    shape = tuple(x.shape)
    if not isinstance(logits, Tensor) or logits.dim() != 3 or tuple(logits.shape[:2]) != shape:
        yield _shape(shape, list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__)
    elif target.n_vocab is not None and logits.shape[2] < target.n_vocab:
        yield _shape(shape, list(logits.shape))
    elif not torch.isfinite(logits).all():
        yield _not_finite(target)


def _fails(message: str) -> Finding:
    return Finding(
        code="forward_fails",
        title="The model fails on a batch.",
        evidence=message,
        why="The remaining checks need a forward pass.",
        fix="model(x) must accept int64 ids [B, T] and return logits [B, T, V], or an object with `.logits`.",
    )


def _shape(x: tuple[int, ...], output: object) -> Finding:
    return Finding(
        code="output_shape",
        title=f"The model returns {output} instead of logits [B, T, V].",
        evidence=f"x is {list(x)}; the output is {output}",
        why="A loss over the wrong dimension runs without an error and trains the wrong thing.",
        fix="Project to the vocabulary last, and keep the order batch, time, vocabulary.",
    )


def first_not_finite(model: nn.Module, run: Callable[[], object]) -> str | None:
    """Return the first module, innermost first, whose output is not finite in `run`, or None."""
    faulty: list[str] = []
    names = {module: name or "the model" for name, module in model.named_modules()}

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        outputs = output if isinstance(output, tuple | list) else [output]
        tensors = [t for t in outputs if isinstance(t, Tensor) and t.is_floating_point()]
        if any(not torch.isfinite(t).all() for t in tensors):
            faulty.append(names[module])

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return faulty[0] if faulty else None


def _not_finite(target: Target) -> Finding:
    with target.evaluating(), torch.no_grad():
        first = first_not_finite(target.model, lambda: target.logits_of(target.probe.batch))
    return Finding(
        code="not_finite",
        title="The logits are not finite before any training.",
        evidence=f"first module with an output that is not finite: {first or 'none, so it arises outside the modules'}",
        why="One NaN spreads to every weight at the next step.",
        fix="Look there for a division by zero, the log or root of a negative number, or a row of scores that is fully "
        "masked.",
    )
