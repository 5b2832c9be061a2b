"""Does the loop train in training mode and evaluate in evaluation mode? Cost: none beyond the record of the loop."""

import itertools
from collections.abc import Iterator, Sequence

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.reading import mode_matters, trained_forwards
from tui_lab.core.doctor.loop.record import LoopEvent, LoopRecord, UpdateRecord
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 2
"""Updates in evaluation mode after an evaluation, before it is taken for a habit."""


def check(target: Target) -> Iterator[Finding]:
    record = target.loop
    matters = mode_matters(target.model, target.dropout)
    if not matters:
        raise NotApplicable("the model has neither dropout nor batch normalization, so its mode makes no difference")
    parts = [update.events for update in record.updates]
    if record.moves_by_hand and not record.updates:  # Without steps, no update ends.
        parts.append(record.remaining)
    forwards = [forward for events in parts for forward in trained_forwards(events)]
    if not forwards:
        raise NotJudged("no call of the model for training was recorded")
    if not any(forward.training for forward in forwards):
        before = itertools.takewhile(lambda event: event is not forwards[0], itertools.chain(*parts))
        is_after_evaluation = any(event.operation == "evaluation" for event in before)
        yield _eval_in_training(matters, forwards[0].line, after_evaluation=is_after_evaluation)
    elif (run := _without_mode(record)) is not None:
        yield _stays_in_evaluation(run, matters, len(record.updates))
    yield from _evaluations(record, matters)


def _evaluations_of(update: UpdateRecord) -> tuple[LoopEvent, ...]:
    return update.events_of("evaluation")


def _without_mode(record: LoopRecord) -> Sequence[UpdateRecord] | None:
    """Return the first updates in a row that train in evaluation mode since an evaluation; None if there are none.

    Of a loop with several optimizers that take turns, only the updates of the first are compared.
    """
    updates = [update for update in record.updates if update.optimizers == record.updates[0].optimizers]
    modes = [any(forward.training for forward in trained_forwards(update.events)) for update in updates]
    for first in range(1, len(updates)):
        if modes[first - 1] and not modes[first] and _evaluations_of(updates[first]):
            end = next((i for i in range(first, len(updates)) if modes[i]), len(updates))
            if end - first >= MIN_UPDATES:
                return updates[first:end]
    return None


def _evaluations(record: LoopRecord, matters: str) -> Iterator[Finding]:
    """Judge evaluations between updates. What happens in most updates belongs to the training, as pseudo-labels do."""
    trained_rows = {row for update in record.updates for row in update.rows}
    with_one = [update for update in record.updates if _evaluations_of(update)]
    if not with_one or 2 * len(with_one) > len(record.updates) or record.evaluation_rows <= trained_rows:
        return
    evaluations = [event for update in with_one for event in _evaluations_of(update)]
    wrong = [event for event in evaluations if event.training]
    if len(wrong) == len(evaluations):
        n_calls = sum(event.count for event in wrong)
        yield Finding(
            code="train_mode_in_evaluation",
            title=f"The model is evaluated in training mode, with its {matters}.",
            evidence=f"model.training is True in all {n_calls} calls without gradients between updates",
            why="Dropout makes the result worse and random; batch normalization uses and updates the statistics of "
            "validation batches.",
            fix="Call model.eval() before the evaluation, and model.train() after it.",
            location=wrong[0].line,
        )


def _why(matters: str) -> str:
    """Return what is wrong with training in evaluation mode."""
    reasons = []
    if "dropout" in matters:
        reasons.append("Dropout drops nothing, so training and validation loss drift apart.")
    if "batch" in matters:
        reasons.append(
            "Batch normalization uses its running statistics, and no longer updates them: they fit older weights."
        )
    return " ".join(reasons)


def _eval_in_training(matters: str, location: str, *, after_evaluation: bool) -> Finding:
    since = ", in which an evaluation left it" if after_evaluation else ""
    return Finding(
        code="eval_in_training",
        title=f"The model trains in evaluation mode{since}, which changes what its {matters} does.",
        evidence="model.training is False in every forward pass that is trained on",
        why=_why(matters),
        fix="Call model.train() before each step; an evaluation leaves the model in evaluation mode.",
        location=location,
    )


def _stays_in_evaluation(run: Sequence[UpdateRecord], matters: str, n_updates: int) -> Finding:
    first = run[0].number + 1
    forward = next(trained_forwards(run[0].events), None)
    return Finding(
        code="eval_in_training",
        title=f"After an evaluation, the model trains on in evaluation mode, which changes what its {matters} does.",
        evidence=f"model.training is True up to update {first - 1} of {n_updates}, and False in the {len(run)} updates "
        "after the evaluation",
        why=_why(matters),
        fix="Call model.train() after each evaluation, or at the start of each step.",
        location="" if forward is None else forward.line,
    )
