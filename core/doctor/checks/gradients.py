"""Does every parameter get a gradient, and does the model own every tensor that gets one?

Cost: one backward pass; thirteen if some gradients are zero, since weights that start at zero on purpose get theirs
after the first updates.
"""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import PROBE_ROWS, Target, trial_rows
from tui_lab.core.training.optim_without_dynamo import Adam

UPDATES = 12
LR = 1e-3


def check(target: Target) -> Iterator[Finding]:
    batch = target.probe.batch
    trial = target.fresh()
    frozen = [name for name, p in trial.model.named_parameters() if not p.requires_grad]
    # Trained parts are frozen on purpose, and so are sine and cosine tables of positions.
    frozen = [name for name in frozen if target.untrained and not _is_position(name)]
    if frozen:
        yield _frozen(frozen)
    loss = trial.loss(batch)
    leaves = unregistered(loss, trial.model)
    if leaves:
        # Leaves that each pass creates are not forgotten weights.
        in_second_pass = {id(leaf) for leaf in unregistered(trial.loss(batch), trial.model)}
        leaves = [leaf for leaf in leaves if id(leaf) in in_second_pass]
    if leaves:
        yield _unregistered(leaves)
    missing = _without_gradient(trial, loss)
    if missing:
        missing = _still_without_gradient(trial, missing)
    yield from _missing(trial, missing)


def unregistered(loss: Tensor, model: nn.Module) -> list[Tensor]:
    """Return the leaves of the loss's graph that require gradients and are not parameters of the model."""
    owned = {id(p) for p in model.parameters()}
    leaves: dict[int, Tensor] = {}
    stack, visited = [loss.grad_fn], set()
    while stack:
        node = stack.pop()
        if node is None or node in visited:
            continue
        visited.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor) and id(leaf) not in owned:
            leaves[id(leaf)] = leaf
        stack += [following for following, _ in node.next_functions]
    return list(leaves.values())


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
        optimizer.step()
        batch = trial_rows(trial.batch(step), PROBE_ROWS, whole=trial.fixed_shape)
        again = _without_gradient(trial, replace(trial, seed=step).loss(batch))
        missing = [name for name in missing if name in again]
    return missing


def _is_position(name: str) -> bool:
    """Return whether a parameter's name suggests positions, as wpe, pos_emb and W_P do."""
    lowered = name.lower()
    return any(part in lowered for part in ("pos", "wpe", "w_p"))


def _missing(target: Target, names: list[str]) -> Iterator[Finding]:
    positions = [name for name in names if _is_position(name)]
    if positions and len(positions) == len(names):
        yield Finding(
            code="no_positions",
            title=f"The position embedding is not used: {', '.join(positions)} gets no gradient.",
            evidence="its gradient is zero at every position",
            why="Attention alone can barely tell the order of the tokens.",
            fix="Add it to the token embedding: e = W_E[x] + W_P[0 … T-1].",
        )
    elif names:
        total = sum(1 for _ in target.model.parameters())
        yield Finding(
            code="missing_gradient",
            title=f"{len(names)} of {total} parameters get no gradient.",
            evidence="without gradient: " + _some(names),
            why="They keep their initial values, and the other layers learn around them.",
            fix="Between them and the loss, look for .detach(), .data, torch.no_grad(), .item() or an argmax, and for "
            "modules that are never called.",
        )


def _frozen(names: list[str]) -> Finding:
    return Finding(
        code="frozen_parameters",
        title=f"{len(names)} parameters are frozen: requires_grad is False.",
        evidence="frozen: " + _some(names),
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


def _some(names: list[str], n: int = 6) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
