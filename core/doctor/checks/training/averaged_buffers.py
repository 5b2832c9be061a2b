"""Do the buffers of an averaged copy of the model follow the model's? Cost: none beyond the record of the loop."""

from collections.abc import Iterator

from tui_lab.core.doctor.findings import Finding, NotApplicable
from tui_lab.core.doctor.loop.observed import AveragedCopy
from tui_lab.core.doctor.loop.reading import some
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 5
"""Updates during which the copy's parameters changed and its buffers did not."""


def check(target: Target) -> Iterator[Finding]:
    averages = target.loop.observed.averages
    if not averages:
        raise NotApplicable("no averaged copy of a model with buffers follows the model")
    for average in averages:
        if average.stale and average.n_updates >= MIN_UPDATES:
            yield _finding(average)


def _finding(average: AveragedCopy) -> Finding:
    # Buffers may be set once, at the end or before an evaluation, as update_bn does.
    is_used = average.n_evaluations > 0 and not average.is_torch
    n = average.n_evaluations
    used = f", and {n} evaluation calls used them" if n else "; no evaluation of the copy was seen"
    return Finding(
        code="stale_buffers",
        kind="finding" if is_used else "hint",
        title="The averaged copy of the model keeps the buffers of its start, such as running statistics."
        if is_used
        else "The averaged copy of the model has not got the model's buffers so far.",
        evidence=f"{len(average.stale)} buffers ({some(average.stale, 3)}) stayed the same in {average.n_updates} "
        f"updates while the copy's parameters followed the model; they differ by {average.distance:.0%} from the "
        f"model's{used}",
        why="In evaluation, batch normalization divides by these statistics, which do not fit the averaged weights.",
        fix="After the training and before each evaluation, call torch.optim.swa_utils.update_bn(loader, averaged "
        "model), or make it with use_buffers=True."
        if average.is_torch
        else "Copy the model's buffers to the averaged copy at each update: for a, b in zip(average.buffers(), "
        "model.buffers()): a.copy_(b).",
        location=average.line,
    )
