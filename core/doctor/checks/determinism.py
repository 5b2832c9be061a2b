"""Do two runs with the same seed agree, and is dropout off in evaluation? Cost: four forward passes, two updates."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import Target


def check(target: Target) -> Iterator[Finding]:
    x = target.probe.x
    with target.evaluating(), torch.no_grad():
        first = target.logits(x)
        target.logits(x.flip(0).flip(1))  # State that is kept between calls shows after another batch.
        second = target.logits(x)
    if not _same(first, second):
        yield _nondeterministic("two forward passes with the same seed", _difference(first, second))
        return
    yield from _dropout_in_evaluation(target)
    if not any(p.requires_grad for p in target.model.parameters()):
        return
    one = _first_gradients(target)
    other = _first_gradients(target)
    for name in one.keys() & other.keys():
        if not _same(one[name], other[name]):
            yield _nondeterministic(f"two gradients of {name} with the same seed", _difference(one[name], other[name]))
            return


def _first_gradients(target: Target) -> dict[str, Tensor]:
    """Return what the first backward pass of an update gives: later ones may depend on a schedule or a counter."""
    trial = target.fresh()
    first: dict[str, Tensor] = {}

    def keeping(name: str) -> Callable[[Tensor], None]:
        def keep(p: Tensor) -> None:
            if p.grad is not None:
                first.setdefault(name, p.grad.detach().to_dense().clone())

        return keep

    for name, p in trial.model.named_parameters():
        if p.requires_grad:
            p.register_post_accumulate_grad_hook(keeping(name))  # type: ignore[no-untyped-call]
    trial.apply_update(target.probe.batch)
    return first


def _dropout_in_evaluation(target: Target) -> Iterator[Finding]:
    """Compare two seeds in evaluation mode: a difference comes from torch's generator."""
    with target.evaluating(), torch.no_grad():
        outputs = []
        for seed in (1, 2):
            outputs.append(replace(target, seed=seed).logits(target.probe.x))
    if not _same(*outputs):
        yield Finding(
            code="dropout_in_eval",
            title="Dropout is active during evaluation.",
            evidence=f"after model.eval(), two passes with different seeds differ by {_difference(*outputs):.3g}",
            why="The validation loss is measured on a model with dropped units, so it is noisy and too high; "
            "generation suffers too.",
            fix="Call model.eval() before evaluating, and pass training=self.training to F.dropout.",
        )


def _same(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True)


def _difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max())


def _nondeterministic(pair: str, difference: float) -> Finding:
    return Finding(
        code="nondeterministic",
        title="Two runs with the same seed differ.",
        evidence=f"{pair} differ by up to {difference:.3g}",
        why="No result can be reproduced, and no change can be judged by a single run.",
        fix="Draw every random number from a generator that the seed sets. Look for noise from numpy, os.urandom or "
        "the clock, and for state kept between calls.",
    )
