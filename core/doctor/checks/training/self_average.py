"""Is the average of the weights another model than the trained one? Cost: none beyond the record of the loop."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.program.target import Target
from tui_lab.util.plural import counted


def check(target: Target) -> Iterator[Finding]:
    averages = target.loop.observed.self_averages
    if not averages:
        raise NotApplicable("no weight is averaged with itself in place")
    average = max(averages, key=lambda each: each.n_weights * each.n_updates)
    weights = counted(average.n_weights, "weight tensor")
    updates = counted(average.n_updates, "update")
    yield Finding(
        code="average_of_itself",
        title="The average of the weights is the model itself, not a copy of it.",
        evidence=f"{weights} of the trained model were averaged with themselves, after {updates}",
        why="ema = model gives the model a second name, so that the average is always equal to the weights, and its "
        "evaluation is that of the model.",
        fix="Make a copy before the training: ema = copy.deepcopy(model), or clone each tensor of model.state_dict().",
        location=average.line,
    )
