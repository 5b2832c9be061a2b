"""Does the optimizer hold the model's parameters, all of them, and are none shared by mistake? Cost: none."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, Skip
from tui_lab.core.doctor.target import Probe, Subject


def check(subject: Subject, probe: Probe) -> Iterator[Finding]:
    yield from _tied(subject)
    if not subject.optimizers:
        raise Skip("no optimizer was given")
    held = {id(p) for o in subject.optimizers for group in o.param_groups for p in group["params"]}
    asking = {name: p for name, p in subject.model.named_parameters() if p.requires_grad}
    owned = {id(p) for p in subject.model.parameters()}
    if held and not held & owned:
        yield Finding(
            "stale_optimizer",
            "The optimizer holds none of the model's parameters.",
            f"it holds {len(held)} parameters of another model; this one has {len(owned)}",
            "It updates weights that nothing uses: the loss does not move, whatever the learning rate.",
            "Make the optimizer after the model, and after anything that replaces its parameters (a copy, a load, a "
            "move to another device).",
            explains=("no_zero_grad", "cleared_before_step"),
        )
        return
    missing = [name for name, p in asking.items() if id(p) not in held]
    if missing:
        yield Finding(
            "missing_from_optimizer",
            f"The optimizer was not given {len(missing)} of {len(asking)} parameters.",
            "missing: " + ", ".join(missing[:6]) + (" …" if len(missing) > 6 else ""),
            "They get gradients but are never updated.",
            "Give it model.parameters(), or check that the groups together hold all of them.",
        )


def _tied(subject: Subject) -> Iterator[Finding]:
    """Parameters under two names, where the design says that there are none."""
    if not subject.untied:
        return
    names: dict[int, list[str]] = {}
    for name, p in subject.model.named_parameters(remove_duplicate=False):
        names.setdefault(id(p), []).append(name)
    for shared in names.values():
        if len(shared) > 1:
            yield Finding(
                "tied_head",
                f"{' and '.join(shared)} are one tensor, which was not meant.",
                "two names, one parameter",
                "The design counts them apart: the model is smaller than it says, and each use pulls at the other's "
                "weights.",
                "Give each its own parameter; tie only by decision (Press and Wolf 2017).",
            )
            return
