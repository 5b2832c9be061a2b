"""Do two runs with the same seed agree, is dropout off in evaluation, and does a forward pass leave the weights alone?

Cost: six forward passes, two updates.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from tui_lab.core.doctor.checks.loss.detached_loss import detachment_of
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.program.batch import Batch, n_rows
from tui_lab.core.doctor.program.nested import mapped
from tui_lab.core.doctor.program.target import Target


def check(target: Target) -> Iterator[Finding]:
    batch = target.probe.batch
    changed = _changed_weights(target)
    if changed:
        yield _changes_weights(changed)
        return
    with torch.no_grad():
        first = target.outputs(batch)
        target.outputs(_reversed(target, batch))  # State that is kept between calls shows after another batch.
        second = target.outputs(batch)
    if not _same(first, second):
        if _repeats_from_same_state(target):
            yield _keeps_state(_difference(first, second))
        else:
            yield _nondeterministic("two forward passes with the same seed", _difference(first, second))
        return
    yield from _dropout_in_evaluation(target)
    has_loss = target.loss_function is not None or target.tokens is not None
    if not has_loss or not any(p.requires_grad for p in target.model.parameters()) or detachment_of(target):
        return
    one = _first_gradients(target)
    other = _first_gradients(target)
    for name in one.keys() & other.keys():
        pair = [one[name]], [other[name]]
        if not _same(*pair):
            yield _nondeterministic(f"two gradients of {name} with the same seed", _difference(*pair))
            return


def _changed_weights(target: Target) -> list[str]:
    """Return the parameters that a forward pass of a copy changes, in evaluation or training mode."""
    trial = target.fresh()
    # An embedding with max_norm scales its rows in each forward pass, as documented.
    scaled = {id(p) for m in trial.model.modules() if getattr(m, "max_norm", None) for p in m.parameters()}
    before = {name: p.detach().clone() for name, p in trial.model.named_parameters() if id(p) not in scaled}
    with torch.no_grad():
        trial.outputs(trial.probe.batch)
        trial.model.train()
        trial.output(trial.probe.batch)
    after = dict(trial.model.named_parameters())
    return [
        name
        for name, value in before.items()
        if name in after and (after[name].shape != value.shape or not _same([after[name]], [value]))
    ]


def _reversed(target: Target, batch: Batch) -> Batch:
    """Return a batch with other inputs at most places."""
    if target.tokens is not None:
        return target.tokens.with_x(batch, target.tokens.x(batch).flip(0).flip(1))
    rows = n_rows(batch)
    return mapped(batch, lambda tensor: tensor.flip(0) if tensor.dim() and len(tensor) == rows else tensor)


def _repeats_from_same_state(target: Target) -> bool:
    """Return whether copies that were not called before agree."""
    with torch.no_grad():
        outputs = [trial.outputs(trial.probe.batch) for trial in (target.fresh(), target.fresh())]
    return _same(*outputs)


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
    """Compare two seeds in evaluation mode: a difference comes from a global generator."""
    with torch.no_grad(), _ActiveDropout() as dropout, _created_layers() as created:
        one, other = (replace(target, seed=seed).outputs(target.probe.batch) for seed in (1, 2))
    if _same(one, other):
        return
    if not dropout.is_active and not any(_has_own_dropout(module) for module in _in_training_mode(target)):
        difference = _difference(one, other)
        yield _creates_layers(sorted(created), difference) if created else _draws(difference)
    else:
        kinds = sorted(
            {type(m).__name__ for m in target.model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)}
        )
        yield Finding(
            code="dropout_in_eval",
            title="Dropout is active during evaluation.",
            evidence=f"after model.eval(), two passes with different seeds differ by {_difference(one, other):.3g}"
            + (f"; the model has {', '.join(kinds)}" if kinds else "; the model has no nn.Dropout"),
            why="The validation loss is measured on a model with dropped units, so it is noisy and too high; "
            "generation suffers too.",
            fix="Call model.eval() before evaluating, and pass training=self.training to F.dropout.",
        )


@contextmanager
def _created_layers() -> Iterator[set[str]]:
    """Collect the kinds of the modules that get parameters meanwhile."""
    kinds: set[str] = set()
    registered = register_module_parameter_registration_hook(lambda module, *_: kinds.add(type(module).__name__))
    try:
        yield kinds
    finally:
        registered.remove()


class _ActiveDropout(TorchFunctionMode):
    """Notices whether a dropout function drops anything."""

    def __init__(self) -> None:
        super().__init__()
        self.is_active = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if "dropout" in name:
            self.is_active = self.is_active or _drops(name, args, kwargs)
        elif func is F.scaled_dot_product_attention:
            self.is_active = self.is_active or _argument(args, kwargs, 4, "dropout_p", 0.0) > 0
        elif func is F.multi_head_attention_forward:
            rate = _argument(args, kwargs, 10, "dropout_p", 0.0)
            self.is_active = self.is_active or (rate > 0 and bool(_argument(args, kwargs, 13, "training", True)))
        return func(*args, **kwargs)


def _drops(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether a call of a dropout function, (input, p, training), drops anything."""
    by_default = "alpha" not in name
    training = kwargs.get("train", _argument(args, kwargs, 2, "training", by_default))
    return bool(training) and _argument(args, kwargs, 1, "p", 0.5) > 0


def _argument(args: Any, kwargs: dict[str, Any], place: int, name: str, default: Any) -> Any:
    return args[place] if len(args) > place else kwargs.get(name, default)


def _in_training_mode(target: Target) -> list[nn.Module]:
    """Return the modules that stay in training mode after model.eval()."""
    with target.evaluating():
        return [module for module in target.model.modules() if module.training]


def _has_own_dropout(module: nn.Module) -> bool:
    """Return whether it drops units without a call of a dropout function."""
    return isinstance(module, nn.RNNBase) and module.dropout > 0


def _draws(difference: float) -> Finding:
    """A hint: a variational autoencoder, a diffusion model or a sampled mask draws on purpose."""
    return Finding(
        code="random_in_eval",
        kind="hint",
        title="The model draws random numbers in evaluation mode, so its output varies.",
        evidence=f"after model.eval(), two passes with different seeds differ by {difference:.3g}, and no dropout is "
        "active",
        why="Unless the sampling is intended, the validation loss is noisy and too high.",
        fix="If it samples on purpose, as a variational autoencoder does, nothing is wrong: for a repeatable "
        "validation loss, use the mean instead of a sample where self.training is false.",
    )


def _creates_layers(kinds: Sequence[str], difference: float) -> Finding:
    return Finding(
        code="random_in_eval",
        title="Layers are created in the forward pass, with new random weights each time.",
        evidence=f"each forward pass creates {', '.join(kinds)}; two passes in evaluation mode with different seeds "
        f"differ by {difference:.3g}",
        why="No optimizer has their weights, so they are never trained, and nothing computed from them is stable.",
        fix="Create them in __init__ as attributes of the module, and only call them in forward.",
    )


def _same(a: list[Tensor], b: list[Tensor]) -> bool:
    return len(a) == len(b) and all(
        one.shape == other.shape and torch.allclose(one, other, rtol=1e-5, atol=1e-6, equal_nan=True)
        for one, other in zip(a, b, strict=True)
    )


def _difference(a: list[Tensor], b: list[Tensor]) -> float:
    """Return the largest difference of two outputs; infinite if their shapes differ."""
    if len(a) != len(b) or any(one.shape != other.shape for one, other in zip(a, b, strict=True)):
        return float("inf")
    return max(
        (float((one.double() - other.double()).abs().max()) for one, other in zip(a, b, strict=True) if one.numel()),
        default=0.0,
    )


def _nondeterministic(pair: str, difference: float) -> Finding:
    return Finding(
        code="nondeterministic",
        title="Two runs with the same seed differ.",
        evidence=f"{pair} differ by up to {difference:.3g}; the generators of torch, numpy and Python were seeded",
        why="No result can be reproduced, and no change can be judged by a single run.",
        fix="Draw every random number from a generator that the seed sets. Look for a generator of your own, "
        "os.urandom or the clock.",
    )


def _keeps_state(difference: float) -> Finding:
    """A hint: recurrent nets that carry their state from batch to batch do so on purpose."""
    return Finding(
        code="nondeterministic",
        kind="hint",
        title="The output depends on the calls before it: the model keeps state.",
        evidence=f"the same batch before and after another one gives outputs that differ by {difference:.3g}; a copy "
        "that was not called before repeats the first output",
        why="A cache or hidden state of other rows leaks into the next batch, unless you carry it over on purpose.",
        fix="Reset the state at the start of forward(), or pass it in and out.",
    )


def _changes_weights(names: list[str]) -> Finding:
    return Finding(
        code="weights_change_in_forward",
        title=f"The forward pass changes {len(names)} of the model's parameters.",
        evidence="changed without a step of the optimizer: " + ", ".join(names[:6]) + (" …" if len(names) > 6 else ""),
        why="Evaluation and generation then train the model in a way that no loss controls, and no result repeats.",
        fix="Compute with a changed value, w = self.weight / norm, instead of assigning to the parameter, .data or "
        "with torch.no_grad(); keep running values in buffers.",
        explains=("nondeterministic", "no_zero_grad"),
    )
