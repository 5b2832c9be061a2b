"""Does the optimizer hold all parameters of the model, and are none shared by mistake? Cost: none."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.target import Target


def check(target: Target) -> Iterator[Finding]:
    yield from _tied(target)
    if not target.optimizers:
        raise NotJudged("no optimizer was given")
    held = {id(p) for o in target.optimizers for group in o.param_groups for p in group["params"]}
    trainable = {name: p for name, p in target.model.named_parameters() if p.requires_grad}
    owned = {id(p) for p in target.model.parameters()}
    if held and not held & owned:
        yield Finding(
            code="stale_optimizer",
            title="The optimizer holds none of the model's parameters.",
            evidence=f"it holds {len(held)} other parameters; the model has {len(owned)}",
            why="It updates weights that nothing uses, so the loss does not move at any learning rate.",
            fix="Create the optimizer after the model, and after anything that replaces its parameters: a copy, a "
            "load, a move to another device.",
            explains=("no_zero_grad", "cleared_before_step"),
        )
        return
    missing = [name for name, p in trainable.items() if id(p) not in held]
    if missing:
        yield Finding(
            code="missing_from_optimizer",
            title=f"{len(missing)} of {len(trainable)} parameters are missing from the optimizer.",
            evidence="missing: " + ", ".join(missing[:6]) + (" …" if len(missing) > 6 else ""),
            why="They get gradients but are never updated.",
            fix="Pass model.parameters(), or check that the parameter groups together contain all of them.",
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
