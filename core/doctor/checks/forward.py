"""Does the model give finite logits of the right shape? Cost: a forward pass, another of a whole row."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import Probe, Subject


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    try:
        with subject.evaluating(), torch.no_grad():
            logits = subject.logits(probe.x)
            # The probe may be cut: a table of positions that is too short shows in a whole row alone.
            subject.logits(subject.batch(0)[0][:1].to(subject.device))
    except Exception as error:
        yield _fails(f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}")
        return
    shape = tuple(probe.x.shape)
    if not isinstance(logits, Tensor) or logits.dim() != 3 or tuple(logits.shape[:2]) != shape:
        yield _shape(shape, tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__)
    elif subject.n_vocab is not None and logits.shape[2] < subject.n_vocab:
        yield _shape((*shape, subject.n_vocab), tuple(logits.shape))
    elif not torch.isfinite(logits).all():
        yield _not_finite(subject, probe.x)


def _fails(message: str) -> Finding:
    return Finding(
        "forward_fails",
        "The model cannot take a batch.",
        message,
        "Nothing else can be examined.",
        "model(x) must take int64 ids [B, T] and give logits [B, T, V], or an object with `.logits`.",
    )


def _shape(wanted: tuple[int, ...], found: object) -> Finding:
    return Finding(
        "output_shape",
        f"The model gives {found} where logits [B, T, V] are meant.",
        f"x is {list(wanted[:2])}; the output is {found}",
        "A loss over the wrong dimension runs without an error and trains on the wrong thing.",
        "Project to the vocabulary last and keep the order batch, time, vocabulary.",
    )


def first_not_finite(model: nn.Module, run: Any) -> str | None:
    """The first module, innermost first, that made an output which is not finite; None: none did."""
    found: list[str] = []
    names = {module: name or "the model" for name, module in model.named_modules()}

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        tensors = [output] if isinstance(output, Tensor) else [t for t in output if isinstance(t, Tensor)] \
            if isinstance(output, tuple | list) else []  # fmt: skip
        if any(t.is_floating_point() and not torch.isfinite(t).all() for t in tensors):
            found.append(names[module])

    handles = [module.register_forward_hook(look) for module in model.modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


def _not_finite(subject: Subject, x: Tensor) -> Finding:
    with subject.evaluating(), torch.no_grad():
        first = first_not_finite(subject.model, lambda: subject.logits(x))
    return Finding(
        "not_finite",
        "The logits are not finite before any training.",
        f"the first module whose output is not finite: {first or 'none of the modules, so the arithmetic after them'}",
        "One NaN spreads to every weight at the next update.",
        "Look there for a division by zero, a log or root of something negative, or a row of scores all masked.",
    )
