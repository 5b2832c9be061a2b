"""Does the loss that is trained on have a graph that leads to the weights? Cost: one forward pass."""

from collections.abc import Iterator
from dataclasses import dataclass

from tui_lab.core.doctor.checks.training.gradients import frozen_parameters
from tui_lab.core.doctor.findings import Finding, NotJudged
from tui_lab.core.doctor.loop.loss_graph import is_detached
from tui_lab.core.doctor.loop.reading import detached_backwards, named_at
from tui_lab.core.doctor.program.target import Target
from tui_lab.core.watch.model.model_search import parameters_of


@dataclass(frozen=True)
class Detachment:
    """How it shows that the loss is detached. line: of the backward call; empty if it is unknown."""

    evidence: str
    line: str = ""


def check(target: Target) -> Iterator[Finding]:
    detachment = detachment_of(target)
    if detachment is None:
        return
    if not any(p.requires_grad for p in target.model.parameters()):
        yield from frozen_parameters(target.model)
        return
    yield Finding(
        code="detached_loss",
        title="The loss is detached from the model: backward() reaches none of its weights.",
        evidence=detachment.evidence,
        why="The graph from the loss to the weights is interrupted, so no step can follow the loss.",
        fix="Compute the loss with gradients, outside of torch.no_grad() and torch.inference_mode(), from the model's "
        "output itself: not from .detach(), .data, .item(), .numpy(), argmax() or a new torch.tensor(…).",
        location=detachment.line,
        explains=("missing_gradient", "no_backward", "weights_never_move", "cannot_overfit", "gradient_flow"),
    )


def detachment_of(target: Target) -> Detachment | None:
    """Return how it shows that the loss is detached; None if it is not, or if nothing is known about it.

    Raises what the loss or the update raises.
    """
    if target.record is None and (target.loss_function is not None or target.tokens is not None):
        trial = target.fresh()
        try:
            loss = trial.loss(trial.probe.batch)
        except NotJudged:
            pass
        else:
            if is_detached(loss, parameters_of(trial.optimizers)):
                needs = "it requires a gradient, but no weight is in its graph"
                return Detachment(needs if loss.requires_grad else "requires_grad of the loss is False")
    if target.record is None and not target.optimizers:
        return None
    lines = detached_backwards(target.loop)
    if not lines:
        return None
    calls = "the only call" if len(lines) == 1 else f"each of {len(lines)} calls"
    evidence = f"no weight is in the graph of the loss that backward(){named_at(lines[0])} gets, in {calls}"
    return Detachment(evidence, lines[0])
