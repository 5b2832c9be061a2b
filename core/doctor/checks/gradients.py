"""Does every parameter get a gradient, and does the model own every parameter that gets one? Cost: one backward pass,
thirteen where some are zero: weights that begin at zero on purpose get theirs after the first updates."""

from collections.abc import Iterator
from dataclasses import replace

from torch import Tensor, nn

from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.target import ROWS, Probe, Subject
from tui_lab.core.training.optim_without_dynamo import Adam

UPDATES = 12
LR = 1e-3


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    trial = subject.fresh()
    frozen = [name for name, p in trial.model.named_parameters() if not p.requires_grad]
    # Trained parts are frozen on purpose, and so are sines and cosines of positions.
    frozen = [name for name in frozen if subject.untrained and not _position_like(name)]
    if frozen:
        yield _frozen(frozen)
    loss = trial.loss(probe.x, probe.y)
    strangers = unregistered(loss, trial.model)
    if strangers:
        # Leaves that each pass makes anew are no forgotten weights.
        again = {id(tensor) for tensor in unregistered(trial.loss(probe.x, probe.y), trial.model)}
        strangers = [tensor for tensor in strangers if id(tensor) in again]
    if strangers:
        yield _unregistered(strangers)
    without = _without_gradient(trial, loss)
    if without:
        without = _still_without(trial, without)
    yield from _missing(trial, without)


def unregistered(loss: Tensor, model: nn.Module) -> list[Tensor]:
    """Leaves of the loss's graph that ask for gradients and are no parameters of the model."""
    owned = {id(p) for p in model.parameters()}
    found: dict[int, Tensor] = {}
    todo, seen = [loss.grad_fn], set()
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if isinstance(leaf, Tensor) and id(leaf) not in owned:
            found[id(leaf)] = leaf
        todo += [following for following, _ in node.next_functions]
    return list(found.values())


def _without_gradient(subject: Subject, loss: Tensor) -> list[str]:
    for p in subject.model.parameters():
        p.grad = None
    if loss.requires_grad:
        loss.backward()  # type: ignore[no-untyped-call]
    return [
        name
        for name, p in subject.model.named_parameters()
        if p.requires_grad and (p.grad is None or not bool(p.grad.any()))
    ]


def _still_without(trial: Subject, without: list[str]) -> list[str]:
    """Over other batches and seeds: a layer skipped by chance, or an expert no token chose, gets its turn."""
    asking = [p for p in trial.model.parameters() if p.requires_grad]
    optimizer = Adam(asking, lr=LR)
    for step in range(UPDATES):
        optimizer.step()
        x, y = (part[:ROWS].to(trial.device) for part in trial.batch(step))
        again = _without_gradient(trial, replace(trial, seed=step).loss(x, y))
        without = [name for name in without if name in again]
    return without


def _position_like(name: str) -> bool:
    """Whether a parameter's name speaks of positions, as wpe, pos_emb and our W_P do."""
    lowered = name.lower()
    return any(part in lowered for part in ("pos", "wpe", "w_p"))


def _missing(subject: Subject, without: list[str]) -> Iterator[Finding]:
    positions = [name for name in without if _position_like(name)]
    rest = [name for name in without if name not in positions]
    if positions and not rest:
        yield Finding(
            "no_positions",
            f"The position embedding is not used: {', '.join(positions)} gets no gradient.",
            "its gradient is zero for every position",
            "Attention alone hardly knows the order of what it sees.",
            "Add it to the token embedding: e = W_E[x] + W_P[0 … T-1].",
        )
    elif without:
        total = sum(1 for _ in subject.model.parameters())
        yield Finding(
            "missing_gradient",
            f"{len(without)} of {total} parameters get no gradient.",
            "without: " + _some(without),
            "What gets no gradient stays as it was initialised; what lies above learns around it.",
            "Look for .detach(), .data, torch.no_grad(), .item() or an argmax between them and the loss, or for "
            "modules that are never called.",
        )


def _frozen(names: list[str]) -> Finding:
    return Finding(
        "frozen_parameters",
        f"{len(names)} parameters are frozen: requires_grad is False.",
        "frozen: " + _some(names),
        "They stay as they were initialised, which is right only where they were trained before.",
        "requires_grad_(True), unless it is meant so.",
    )


def _unregistered(strangers: list[Tensor]) -> Finding:
    shapes = ", ".join(str(list(t.shape)) for t in strangers[:6])
    return Finding(
        "unregistered_parameters",
        f"{len(strangers)} tensors that want a gradient are no parameters of the model.",
        f"shapes {shapes}{' …' if len(strangers) > 6 else ''}",
        "model.parameters() does not list them: no optimizer updates them, no checkpoint keeps them, .to(device) "
        "leaves them behind.",
        "Keep layers in nn.ModuleList or nn.ModuleDict, and tensors in nn.Parameter, as attributes of the module.",
        explains=("missing_from_optimizer", "stale_optimizer", "dropout_in_eval"),
    )


def _some(names: list[str], n: int = 6) -> str:
    return ", ".join(names[:n]) + (f" and {len(names) - n} more" if len(names) > n else "")
