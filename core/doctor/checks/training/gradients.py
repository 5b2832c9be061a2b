"""Does every parameter get a gradient, and does the model own every tensor that gets one?

Cost: one backward pass; thirteen if some gradients are zero, since weights that start at zero on purpose get theirs
after the first updates.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from tui_lab.core.doctor.checks.training.detached_embeddings import EmbeddingOutputs
from tui_lab.core.doctor.checks.training.gradient_flow import family_of
from tui_lab.core.doctor.findings import Finding, Kind, NotJudged
from tui_lab.core.doctor.loop.lines import class_line
from tui_lab.core.doctor.loop.loss_course import loss_courses
from tui_lab.core.doctor.loop.reading import some
from tui_lab.core.doctor.program.modules_beside import names_needing_no_optimizer
from tui_lab.core.doctor.program.target import PROBE_ROWS, Target, trial_rows
from tui_lab.core.kernels.autograd_graph import graph_leaves
from tui_lab.core.nonfinite.ranges import all_finite
from tui_lab.core.training.optim_without_dynamo import Adam

UPDATES = 12
LR = 1e-3
FINE_TUNING = 0.8
"""Fraction of frozen weights above which a program seems to train only a part of a trained model."""
MAX_VALUES = 4096
"""Values of a tensor that are compared."""


def check(target: Target) -> Iterator[Finding]:
    batch = target.probe.batch
    trial = target.fresh()
    if target.untrained:  # Trained parts are frozen on purpose.
        yield from frozen_parameters(trial.model)
    embeddings = EmbeddingOutputs(trial.model)
    loss = trial.loss(batch)
    leaves = unregistered(loss, trial.model)
    if leaves:
        # Leaves that each pass creates are not forgotten weights.
        in_second_pass = {id(leaf) for leaf in unregistered(trial.loss(batch), trial.model)}
        leaves = [leaf for leaf in leaves if id(leaf) in in_second_pass]
    if leaves:
        yield _unregistered(leaves)
    missing = _unexplained(target, _without_gradient(trial, loss))
    is_finite = all_finite(p.grad for p in trial.model.parameters() if p.grad is not None)
    yield from embeddings.findings()
    if missing and target.record is not None and len(loss_courses(target.record)) > 1:
        raise NotJudged("the loop trains several losses, and one that is not tried may give gradients")
    if missing:
        missing = _still_without_gradient(trial, missing)
    unchosen = _unchosen(trial, missing)
    yield from _missing(trial, [name for name in missing if name not in unchosen])
    if unchosen:
        yield _unused_experts(unchosen)
    if not is_finite:  # NaN spreads to where no gradient would come from the targets.
        raise NotJudged("the gradient of the loss is not finite")


def unregistered(loss: Tensor, model: nn.Module) -> list[Tensor]:
    """Return the leaves of the loss's graph that require gradients and are not parameters of the model."""
    owned = {id(p) for p in model.parameters()}
    return [leaf for leaf in graph_leaves(loss) if id(leaf) not in owned]


def frozen_parameters(model: nn.Module) -> Iterator[Finding]:
    """Report frozen weights. Tables that were computed, such as sines of positions or a mask, are meant to be.

    So are the weights below adapters of low rank that are trained (Hu et al. 2021), but not parts of these adapters.
    """
    frozen = {name: p for name, p in model.named_parameters() if not p.requires_grad}
    trains_adapters = any(p.requires_grad and _is_adapter(name) for name, p in model.named_parameters())
    names = [
        name
        for name, p in frozen.items()
        if not _is_position(name) and not _is_computed(p) and (_is_adapter(name) or not trains_adapters)
    ]
    if names:
        n_frozen = sum(p.numel() for p in frozen.values())
        n_all = sum(p.numel() for p in model.parameters())
        # Adapters and new heads are trained on top of a frozen model, which was trained before.
        yield _frozen(names, kind="hint" if FINE_TUNING * n_all < n_frozen < n_all else "finding")


def _is_adapter(name: str) -> bool:
    """Return whether a parameter is one of the two factors of LoRA, by the names that libraries give them."""
    return "lora_" in name


def _is_computed(p: Tensor) -> bool:
    """Return whether a tensor holds few values (a mask, ones), sines and cosines of positions, or a monotone series."""
    values = p.detach().float()
    if values.numel() <= 1 or len(torch.unique(values.flatten()[:MAX_VALUES])) <= 3:
        return True
    if values.dim() == 1:
        steps = values.diff()
        return bool((steps >= 0).all() or (steps <= 0).all())
    rows = values.flatten(0, -2)
    first_is_zero_angle = bool(((rows[0] == 0) | (rows[0] == 1)).all())
    return first_is_zero_angle and float(values.abs().max()) <= 1.0


def _unexplained(target: Target, missing: list[str]) -> list[str]:
    """Return the parameters without gradient in a trial that have none in the loop either, and should have one.

    A bias has none where its layer has one and it cancels in the loss: of a score that is only compared with others, as
    in a reward model or a contrastive loss, or of a potential of which only the slope counts.
    """
    ids_with_gradient = {id(p) for p in target.record.with_gradient} if target.record is not None else set()
    parameters = dict(target.model.named_parameters())
    unneeded = names_needing_no_optimizer(target)
    return [
        name
        for name in missing
        if id(parameters.get(name)) not in ids_with_gradient
        and name not in unneeded
        and not _cancels(name, parameters, missing)
    ]


def _cancels(name: str, parameters: Mapping[str, Tensor], missing: Sequence[str]) -> bool:
    layer, _, kind = name.rpartition(".")
    weight = f"{layer}.weight" if layer else "weight"
    return kind == "bias" and weight in parameters and weight not in missing


def _without_gradient(target: Target, loss: Tensor) -> list[str]:
    for p in target.model.parameters():
        p.grad = None
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    return [
        name
        for name, p in target.model.named_parameters()
        if p.requires_grad and (p.grad is None or not bool(p.grad.any()))
    ]


def _still_without_gradient(trial: Target, missing: list[str]) -> list[str]:
    """Try other batches and seeds: a layer skipped by chance, or an expert that no token chose, gets its turn."""
    trainable = [p for p in trial.model.parameters() if p.requires_grad]
    optimizer = Adam(trainable, lr=LR)
    for step in range(UPDATES):
        for p in trainable:
            if p.grad is not None and p.grad.layout != torch.strided:  # Of an embedding with sparse=True.
                p.grad = p.grad.to_dense()
        optimizer.step()
        batch = trial_rows(trial.batch(step), PROBE_ROWS, whole=trial.fixed_shape)
        again = _without_gradient(trial, replace(trial, seed=step).loss(batch))
        missing = [name for name in missing if name in again]
    return missing


def _is_position(name: str) -> bool:
    """Return whether a parameter's name suggests positions, as wpe, pos_emb and W_P do."""
    lowered = name.lower()
    return any(part in lowered for part in ("pos", "wpe", "w_p"))


def _unchosen(trial: Target, missing: list[str]) -> list[str]:
    """Return those of the `missing` parameters that belong to experts which no token chose.

    Experts are modules of one list and shape that get different parts of the batch, or are called experts.
    """
    families = {name: (_family(name, trial.model), p.shape) for name, p in trial.model.named_parameters()}
    siblings: dict[Any, list[str]] = {}
    for name, family in families.items():
        siblings.setdefault(family, []).append(name)
    candidates = [name for name in missing if families[name][0] and not set(siblings[families[name]]) <= set(missing)]
    if not candidates:
        return []
    sizes = _input_sizes(trial)
    routed = []
    for name in candidates:
        input_sizes = {sizes.get(sibling.rpartition(".")[0], 0) for sibling in siblings[families[name]]}
        if "expert" in name.lower() or len(input_sizes - {0}) > 1:
            routed.append(name)
    return routed


def _family(name: str, model: nn.Module) -> str:
    """Return the family of a parameter; the modules that a script calls, in a list of ours, are not experts."""
    if type(model) is not nn.ModuleList:
        return family_of(name)
    number, _, name_in_module = name.partition(".")
    family = family_of(name_in_module)
    return f"{number}.{family}" if family else ""


def _input_sizes(trial: Target) -> dict[str, int]:
    """Return how many numbers each module gets as its input in one forward pass."""
    sizes: dict[str, int] = {}

    def measure(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any) -> None:
            sizes[name] = sizes.get(name, 0) + sum(t.numel() for t in inputs if isinstance(t, Tensor))

        return hook

    handles = [m.register_forward_pre_hook(measure(name)) for name, m in trial.model.named_modules()]
    try:
        # Not by `forward`: the loss may be computed from several calls of the model, or of its parts.
        with trial.evaluating(), torch.no_grad():
            trial.loss(trial.probe.batch)
    finally:
        for handle in handles:
            handle.remove()
    return sizes


def _missing(target: Target, names: list[str]) -> Iterator[Finding]:
    positions = [name for name in names if _is_position(name)]
    if positions and len(positions) == len(names) and target.tokens is not None:
        yield Finding(
            code="no_positions",
            title=f"The position embedding is not used: {', '.join(positions)} gets no gradient.",
            evidence="its gradient is zero at every position",
            why="Attention alone can barely tell the order of the tokens.",
            fix="Add it to the token embedding: e = W_E[x] + W_P[0 … T-1].",
        )
    elif names:
        total = sum(1 for _ in target.model.parameters())
        uncalled = _uncalled(target, names)
        yield Finding(
            code="missing_gradient",
            title=f"{len(names)} of {total} parameters get{'s' if len(names) == 1 else ''} no gradient.",
            location=class_line(target.model, names[0].rpartition(".")[0]),
            evidence=f"without gradient in {UPDATES} batches: "
            + some(names)
            + (f"; never called: {some(uncalled)}" if uncalled else ""),
            why="They keep their initial values, and the other layers learn around them.",
            fix="Call these modules in forward(), or remove them."
            if len(uncalled) == len({name.rpartition(".")[0] for name in names})
            else "Between them and the loss, look for .detach(), .data, torch.no_grad(), .item() or an argmax, and for "
            "modules that are never called.",
        )


def _uncalled(target: Target, names: list[str]) -> list[str]:
    """Return the modules of these parameters that a forward pass does not call."""
    called = _input_sizes(target)
    modules = dict.fromkeys(name.rpartition(".")[0] for name in names)
    return [module for module in modules if module and module not in called]


def _unused_experts(names: list[str]) -> Finding:
    return Finding(
        code="missing_gradient",
        kind="hint",
        title=f"No token chose the experts of {len(names)} parameters.",
        evidence=f"without gradient in {UPDATES} batches, while others of the same list get one: " + some(names),
        why="Experts that are never chosen learn nothing, and the router has no reason to choose them later.",
        fix="Add a loss that balances the load of the experts, or noise to the router (Shazeer et al. 2017).",
    )


def _frozen(names: list[str], kind: Kind) -> Finding:
    return Finding(
        code="frozen_parameters",
        kind=kind,
        title=f"{len(names)} parameters are frozen: requires_grad is False.",
        evidence="frozen: " + some(names),
        why="They keep their initial values, which is right only if they were trained before.",
        fix="Call requires_grad_(True) unless this is intended.",
    )


def _unregistered(tensors: list[Tensor]) -> Finding:
    shapes = ", ".join(str(list(t.shape)) for t in tensors[:6])
    return Finding(
        code="unregistered_parameters",
        title=f"{len(tensors)} tensors that require a gradient are not parameters of the model.",
        evidence=f"shapes {shapes}{' …' if len(tensors) > 6 else ''}",
        why="model.parameters() omits them: no optimizer updates them, no checkpoint saves them, and .to(device) does "
        "not move them.",
        fix="Store layers in nn.ModuleList or nn.ModuleDict, and tensors in nn.Parameter, as attributes of the module.",
        explains=("missing_from_optimizer", "stale_optimizer", "dropout_in_eval"),
    )
