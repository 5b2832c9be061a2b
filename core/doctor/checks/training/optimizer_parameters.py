"""Do the updates reach all parameters of the model, and are none shared by mistake? Cost: none."""

from collections.abc import Iterator, Mapping

from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding, Kind, NotJudged
from tui_lab.core.doctor.loop.reading import OTHER_RULE, and_others, some, why_not_repeatable
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.program.modules_beside import names_needing_no_optimizer
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.watch.model.model_search import parameters_of
from tui_lab.core.watch.variables.script_objects import instances_of


def check(target: Target) -> Iterator[Finding]:
    yield from _tied(target)
    if target.record is not None and target.record.moves_by_hand:
        yield from _left_out(target, target.record)
        return
    target.require_optimizers()
    held = {id(p): p for p in parameters_of(target.optimizers)}
    owned = {id(p) for p in target.model.parameters()}
    trainable = {name: p for name, p in target.model.named_parameters() if p.requires_grad}
    unneeded = names_needing_no_optimizer(target)
    missing = {name: p for name, p in trainable.items() if id(p) not in held and name not in unneeded}
    foreign = [p for key, p in held.items() if key not in owned]
    if held and not held.keys() & owned:
        yield _none_held(len(held), len(owned), _replaced(missing, foreign))
        return
    if missing and not any(p.requires_grad for p in held.values()):
        yield _only_frozen(missing, len(held.keys() & owned))
        return
    if missing and foreign:
        in_modules = _ids_in_modules()
        foreign = [p for p in foreign if id(p) not in in_modules]
    if replaced := _replaced(missing, foreign):
        yield _made_before(replaced)
    missing = {name: p for name, p in missing.items() if name not in replaced}
    if missing:
        yield Finding(
            code="missing_from_optimizer",
            title=f"The optimizer does not hold {len(missing)} of {len(trainable.keys() - unneeded)} parameters.",
            evidence="missing: " + some(list(missing)),
            why="They get gradients but are never updated.",
            fix="Pass model.parameters(), or check that the parameter groups together contain all of them.",
            kind=_kind(target, len(missing), len(trainable)),
        )


def _none_held(n_held: int, n_owned: int, replaced: Mapping[str, Tensor]) -> Finding:
    return Finding(
        code="stale_optimizer",
        title="The optimizer holds none of the model's parameters.",
        evidence=f"it holds {n_held} other parameters, the model has {n_owned}"
        + (f"; such as {_in_place(replaced)}" if replaced else ""),
        why="It updates weights that nothing uses, so the loss does not move at any learning rate.",
        fix="Create the optimizer after the model, and after anything that replaces its parameters: a copy, a "
        "load, a move to another device.",
        explains=("no_zero_grad", "cleared_before_step", "weights_never_move"),
    )


def _only_frozen(missing: Mapping[str, Tensor], n_held: int) -> Finding:
    return Finding(
        code="stale_optimizer",
        title="The optimizer holds none of the parameters that are trained.",
        evidence=f"the {n_held} that it holds require no gradient; {len(missing)} do that it does not hold: "
        + some(list(missing)),
        why="The parameters that get gradients are never updated, so the model stays as it is.",
        fix="Create the optimizer after freezing the model and adding what is trained, such as LoRA's layers.",
        explains=("no_zero_grad", "cleared_before_step", "missing_from_optimizer", "weights_never_move"),
    )


def _kind(target: Target, n_missing: int, n_trainable: int) -> Kind:
    """Return whether missing parameters are a mistake. Fine-tuning trains a part of a trained model on purpose."""
    return "hint" if not target.untrained and 2 * n_missing > n_trainable else "finding"


def _left_out(target: Target, record: LoopRecord) -> Iterator[Finding]:
    """Judge which parameters the loop changes by hand, by whatever rule."""
    reason = why_not_repeatable(record)
    if reason and reason != OTHER_RULE:
        raise NotJudged(reason)
    names = record.left_out
    n_trainable = sum(p.requires_grad for p in target.model.parameters())
    if names:
        yield Finding(
            code="missing_from_optimizer",
            title=f"The updates by hand leave out {len(names)} of {n_trainable} parameters.",
            evidence=f"equal to the last bit after {len(record.updates)} updates that change the others; even the "
            f"smallest of these changes, in proportion to the gradient, would show: {some(names)}",
            why="They get gradients but are never updated.",
            fix="Update every parameter that requires a gradient: for p in model.parameters(): …",
            kind=_kind(target, len(names), n_trainable),
            explains=("weights_never_move",),
        )


def _ids_in_modules() -> set[int]:
    """Return the ids of the parameters of all modules in this process."""
    return {
        id(p)
        for module in instances_of(nn.Module)
        for p in vars(module).get("_parameters", {}).values()
        if p is not None
    }


def _replaced(missing: Mapping[str, Tensor], foreign: list[Tensor]) -> dict[str, Tensor]:
    """Return for missing parameters the tensor of an optimizer that they probably replaced.

    foreign: tensors that no module has. The old one has the same shape, or one that differs in one size, as an
    embedding that was resized.
    """
    replaced: dict[str, Tensor] = {}
    left = list(foreign)
    for name, parameter in missing.items():
        close = [p for p in left if _differing_sizes(p, parameter) <= 1]
        if close:
            old = min(close, key=lambda p: _differing_sizes(p, parameter))
            replaced[name] = old
            left = [p for p in left if p is not old]
    return replaced


def _differing_sizes(first: Tensor, second: Tensor) -> int:
    """Return in how many dimensions the shapes differ."""
    if first.dim() != second.dim():
        return max(first.dim(), second.dim())
    return sum(a != b for a, b in zip(first.shape, second.shape, strict=True))


def _in_place(replaced: Mapping[str, Tensor]) -> str:
    return ", ".join(f"a tensor {list(p.shape)} in place of {name}" for name, p in list(replaced.items())[:4])


def _made_before(replaced: Mapping[str, Tensor]) -> Finding:
    name = next(iter(replaced))
    others = and_others(len(replaced) - 1)
    return Finding(
        code="stale_optimizer",
        title=f"The optimizer was created before {name}{others} {'were' if others else 'was'} replaced, so it updates "
        "old tensors.",
        evidence=f"it holds tensors that no module of the model has: {_in_place(replaced)}",
        why="The new parameter gets gradients, but nothing updates it.",
        fix="Create the optimizer after the last change of the model's parameters: resizing an embedding, replacing a "
        "layer, moving or copying the model.",
        explains=("no_zero_grad", "missing_from_optimizer", "weights_never_move"),
    )


def _tied(target: Target) -> Iterator[Finding]:
    """Find parameters under two names in a design that ties none."""
    if not target.untied:
        return
    names: dict[int, list[str]] = {}
    for name, p in target.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    for shared in names.values():
        if len(shared) > 1:
            yield Finding(
                code="tied_head",
                title=f"{' and '.join(shared)} share one tensor, but the design does not tie them.",
                evidence="two names, one parameter",
                why="The model has fewer parameters than its design, and each use changes the other's weights.",
                fix="Give each its own parameter; tie weights only on purpose (Press and Wolf 2017).",
            )
            return
