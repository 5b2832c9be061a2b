"""Does the loop train in training mode and evaluate in evaluation mode? Cost: none beyond the record of the loop."""

from collections.abc import Iterator, Sequence

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.reading import mode_matters, trained_forwards
from tui_lab.core.doctor.loop.record import LoopEvent, LoopRecord
from tui_lab.core.doctor.target import Target

MIN_UPDATES = 2
"""Updates in evaluation mode after an evaluation, before it is taken for a habit."""


def check(target: Target) -> Iterator[Finding]:
    record = target.loop
    matters = f"dropout of {target.dropout:g}" if target.dropout else mode_matters(target.model)
    if not matters:
        raise NotApplicable("the model has neither dropout nor batch normalization, so its mode makes no difference")
    modes = [list(trained_forwards(update)) for update in record.updates]
    forwards = [forward for update in modes for forward in update]
    if not forwards:
        raise NotJudged("no call of the model for training was recorded")
    if not any(forward.training for forward in forwards):
        yield _eval_in_training(matters, forwards[0].line)
    elif (number := _first_without_mode(modes)) is not None:
        yield _stays_in_evaluation(record, matters, number, modes[number][0].line)
    yield from _evaluations(record, matters)


def _first_without_mode(modes: Sequence[Sequence[LoopEvent]]) -> int | None:
    """Return the update from which on all train in evaluation mode, after others that did not, or None."""
    number = len(modes)
    while number and not any(forward.training for forward in modes[number - 1]):
        number -= 1
    n_judged = sum(1 for update in modes[number:] if update)
    return number if number > 0 and n_judged >= MIN_UPDATES and modes[number] else None


def _evaluations(record: LoopRecord, matters: str) -> Iterator[Finding]:
    """Judge evaluations between updates. What happens in most updates belongs to the training, as pseudo-labels do."""
    trained_rows = {row for update in record.updates for row in update.rows}
    with_one = [update for update in record.updates if update.events_of("evaluation")]
    if not with_one or 2 * len(with_one) > len(record.updates) or record.evaluation_rows <= trained_rows:
        return
    evaluations = [event for update in with_one for event in update.events_of("evaluation")]
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


def _eval_in_training(matters: str, location: str) -> Finding:
    return Finding(
        code="eval_in_training",
        title=f"The model trains in evaluation mode, so its {matters} is never applied.",
        evidence="model.training is False in every forward pass of an update",
        why="Regularization is off, so training and validation loss drift apart.",
        fix="Call model.train() before each step; an evaluation leaves the model in evaluation mode.",
        location=location,
    )


def _stays_in_evaluation(record: LoopRecord, matters: str, number: int, location: str) -> Finding:
    evaluated = bool(record.updates[number].events_of("evaluation"))
    after = "an evaluation" if evaluated else f"{number} updates"
    return Finding(
        code="eval_in_training",
        title=f"After {after}, the model keeps training in evaluation mode, so its {matters} is no longer applied.",
        evidence=f"model.training is True in the first {number} updates, and False in the "
        f"{len(record.updates) - number} after them",
        why="Regularization is off from then on, so training and validation loss drift apart.",
        fix="Call model.train() after each evaluation, or at the start of each step.",
        location=location,
    )
