"""Do gradients vanish or explode from layer to layer? Cost: one backward pass."""

import math
import re
from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.program.target import Target

RATIO = 1e4
"""Between the largest and the smallest norm of corresponding matrices. Healthy designs stay below 1e2; a chain of d
layers that each shrink the gradient by ten reaches it at d = 4 (Glorot and Bengio 2010 show such chains)."""


def check(target: Target) -> Iterator[Finding]:
    trial = target.fresh()
    loss = trial.loss(target.probe.batch)
    if not loss.requires_grad:
        raise NotJudged("no parameter requires a gradient")
    loss.backward()  # type: ignore[no-untyped-call]
    families: dict[str, list[tuple[str, float]]] = {}
    for name, p in trial.model.named_parameters():
        if p.dim() >= 2 and p.grad is not None and (family := family_of(name)):
            families.setdefault(f"{family} {list(p.shape)}", []).append((name, float(p.grad.norm())))
    layered = {family: norms for family, norms in families.items() if len(norms) > 1}
    if not layered:
        raise NotApplicable("no two numbered layers have weights of the same name and shape to compare gradients of")
    if not all(math.isfinite(size) for norms in layered.values() for _, size in norms):
        raise NotJudged("the gradient of the loss is not finite")
    for norms in layered.values():
        sizes = [size for _, size in norms if size > 0]
        if sizes and max(sizes) > RATIO * min(sizes):
            yield Finding(
                code="gradient_flow",
                title=f"The gradient {'vanishes' if sizes[0] < sizes[-1] else 'explodes'} toward the first layer.",
                evidence="gradient norms: " + "; ".join(f"{name} {size:.2g}" for name, size in norms[:8]),
                why="Layers with a tiny gradient barely learn; layers with a huge one overshoot.",
                fix="Add residual connections and normalization, or initialize with a scale that preserves the norm "
                "(Glorot, Kaiming).",
            )
            return


def family_of(name: str) -> str:
    """Return a parameter's name with the number of its layer replaced: blocks.3.fc.weight, block3.fc.weight; or ""."""
    match = re.search(r"(?<![0-9])\d+(?=\.)", name)
    return name[: match.start()] + "*" + name[match.end() :] if match else ""
