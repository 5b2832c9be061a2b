"""The targets that the loss really trains, wherever they are shifted: in the loader, in the loss or in the model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from tui_lab.core.doctor.findings import NotApplicable, NotJudged
from tui_lab.core.doctor.measures.label_log_probs import counted_labels, labeled
from tui_lab.core.doctor.measures.loss_calls import trained_calls
from tui_lab.core.doctor.measures.loss_gradient import Measurement, measured_loss, trained
from tui_lab.core.doctor.program.batch import Batch, first_rows, has_several_calls, with_tensor
from tui_lab.core.doctor.program.nested import tensors_of
from tui_lab.core.doctor.program.once import once_per_target
from tui_lab.core.doctor.program.target import Target, required, targets_of
from tui_lab.core.doctor.program.target_rules import UNKNOWN, next_token

STEPS = 8
"""Batches to look at."""
MEASURED_STEPS = 3
"""As STEPS, where each costs a forward pass."""
MEASURED_ROWS = 8
AGREEMENT = 0.98
"""Fraction of agreeing targets above which a pattern counts as present."""
SHIFTS = (0, 1, -1, 2)


@dataclass(frozen=True)
class TrainedBatch:
    """ids x, targets y as the batch has them, and the trained ones, `ignored` where none counts: int64 [B, T]."""

    x: Tensor
    y: Tensor | None
    trained: Tensor
    batch: Batch


@dataclass(frozen=True)
class TrainedTargets:
    """shift: position t is trained on y[t + shift]; None: that is unknown. measurement: how it was measured.

    view_shift: the same for the y of the target's TokenView. They differ for a script whose model shifts its labels:
    the view has the targets that the loss got, and `batches` the labels.
    """

    batches: Sequence[TrainedBatch]
    shift: int | None
    measurement: Measurement | None
    view_shift: int | None = None


@once_per_target
def trained_targets(target: Target) -> TrainedTargets:
    """Return the trained targets of the first batches, once for each target.

    Raises NotApplicable without tokens, NotJudged if the targets are neither in the batch nor measurable.
    """
    if target.tokens is None and labeled(target.batch(0)) is not None:
        return _labeled_targets(target)
    if target.tokens is None and (of_calls := _targets_of_calls(target)):
        return TrainedTargets(of_calls, None, None)
    tokens = required(target.tokens)
    try:
        measurement: Measurement | None = trained(target)
    except (NotJudged, NotApplicable):
        measurement = None
    if measurement is not None and measurement.logits.shape[1] == 1 and target.probe.x.shape[1] > 1:
        measurement = None
    if tokens.y is None:
        return TrainedTargets(_measured_batches(target, measurement), None, measurement)
    shift = view_shift = _shift(target, measurement)
    batches = []
    for step in range(STEPS if target.varies else 1):
        batch = trained_batch(target, target.batch(step), shift or 0)
        labels = _labels_before_the_shift(batch)
        batches.append(batch if labels is None else replace(batch, y=labels))
    if all(one.y is not None and not torch.equal(one.y, one.trained) for one in batches) and shift == 0:
        shift = 1
    if view_shift is not None and uses_mask(measurement, view_shift, target.ignored):
        batches = [_masked(target, batch) for batch in batches[:MEASURED_STEPS]]
    return TrainedTargets(batches, shift, measurement, view_shift)


def label_shift(target: Target) -> int:
    """Return by how many positions the loss shifts the batch's targets: 1 for Hugging Face models; 0 if unknown."""
    try:
        return trained_targets(target).shift or 0
    except (NotApplicable, NotJudged):
        return 0


def shifted(x: Tensor, k: int) -> Tensor:
    """Return x[t+k] at t, UNKNOWN beyond the row's ends; [B, T]."""
    if k == 0:
        return x.clone()
    moved = x.roll(-k, dims=1)
    edge = slice(max(0, x.shape[1] - k), None) if k > 0 else slice(0, -k)
    moved[:, edge] = UNKNOWN
    return moved


def agreement(expected: Tensor, y: Tensor, counted: Tensor) -> float:
    """Return the fraction of the counted targets, where `expected` is known, that are the expected ones; [B, T]."""
    known = (expected != UNKNOWN) & counted
    if not bool(known.any()) or int(known.sum()) < 0.4 * int(counted.sum()):
        return 0.0
    return float((expected == y)[known].float().mean())


def are_next_ids(batch: TrainedBatch, ignored: int) -> bool:
    """Return whether the trained targets are the next ids of their row."""
    return agreement(next_token(batch.x), batch.trained, batch.trained != ignored) > AGREEMENT


def uses_mask(measurement: Measurement | None, shift: int, ignored: int) -> bool:
    """Return whether the loss of some targets is left out, at positions that depend on the row: by a mask.

    Such as that of an answer, by which a script multiplies the loss of each target.
    """
    if measurement is None or measurement.y is None:
        return False
    defined, counted = _defined(measurement, shift, ignored), measurement.reading.counted
    return bool(((defined & counted).any(dim=0) & (defined & ~counted).any(dim=0)).any())


def leaves_out_targets(measurement: Measurement | None, shift: int, ignored: int) -> bool:
    """Return whether the loss of any target is left out, but for those of the last position."""
    if measurement is None or measurement.y is None:
        return False
    return bool((_defined(measurement, shift, ignored) & ~measurement.reading.counted)[:, :-1].any())


def _defined(measurement: Measurement, shift: int, ignored: int) -> Tensor:
    """Return which positions have a target that the loss function does not ignore, bool [B, T]."""
    assert measurement.y is not None
    moved = shifted(measurement.y, shift)
    return (moved != UNKNOWN) & (moved != ignored)


def _masked(target: Target, batch: TrainedBatch) -> TrainedBatch:
    """Return the batch, or its first rows, with the targets ignored that the loss leaves out."""
    few = batch.batch if target.fixed_shape else first_rows(batch.batch, MEASURED_ROWS)
    counted = measured_loss(target, few).reading.counted.to(batch.x.device)
    n = len(counted)
    trained = batch.trained[:n].masked_fill(~counted, target.ignored)
    return TrainedBatch(batch.x[:n], None if batch.y is None else batch.y[:n], trained, few)


def _labeled_targets(target: Target) -> TrainedTargets:
    """Return the targets of a model that returns the log-probabilities of its labels."""
    shift = 0
    batches = []
    for step in range(MEASURED_STEPS if target.varies else 1):
        batch = target.batch(step)
        pair = labeled(batch)
        assert pair is not None
        shift, counted = counted_labels(target, batch)
        moved = shifted(pair.labels, shift)
        trained = moved.masked_fill((moved < 0) | ~counted, target.ignored)
        batches.append(TrainedBatch(pair.x, pair.labels, trained, batch))
    return TrainedTargets(batches, shift, None, shift)


def _targets_of_calls(target: Target) -> list[TrainedBatch]:
    """Return the targets of a loss of several calls of models over tokens; none for another program.

    Such as DPO, with a call for the chosen and one for the rejected rows. Those of one length are one batch.
    """
    batches = []
    for step in range(MEASURED_STEPS if target.varies else 1):
        batch = target.batch(step)
        if not has_several_calls(batch):
            return []
        try:
            calls = list(trained_calls(target, batch))
        except NotJudged:  # The loss could not be followed.
            return []
        rows: dict[int, list[TrainedBatch]] = {}
        for call in calls:
            trained = call.reading.targets.masked_fill(~call.reading.counted, target.ignored)
            rows.setdefault(call.x.shape[1], []).append(TrainedBatch(call.x, None, trained, batch))
        for of_length in rows.values():
            x, trained = torch.cat([one.x for one in of_length]), torch.cat([one.trained for one in of_length])
            batches.append(TrainedBatch(x, None, trained, batch))
    return batches


def _labels_before_the_shift(batch: TrainedBatch) -> Tensor | None:
    """Return the labels that the model got, if the targets are known only as its loss used them, else None."""
    for tensor in tensors_of(batch.batch):
        if tensor.is_floating_point() or tensor.shape != batch.x.shape or torch.equal(tensor, batch.x):
            continue
        moved = shifted(tensor.long(), 1)
        known = moved != UNKNOWN
        if torch.equal(moved[known], batch.trained[known]) and not torch.equal(tensor[known], batch.trained[known]):
            return tensor.long()
    return None


def trained_batch(target: Target, batch: Batch, shift: int) -> TrainedBatch:
    """Return a batch whose targets the loss moves by `shift`."""
    tokens = required(target.tokens)
    y = targets_of(tokens, batch)
    moved = shifted(y, shift)
    return TrainedBatch(tokens.x(batch), y, moved.masked_fill(moved == UNKNOWN, target.ignored), batch)


def _measured_batches(target: Target, measurement: Measurement | None) -> list[TrainedBatch]:
    """Return batches whose targets are only known from the gradient of the loss."""
    unknown = NotJudged(
        "it is not known which tensor holds the targets, and the gradient of the loss does not show them"
    )
    if measurement is None or measurement.reading.form == "other":
        raise unknown
    tokens = required(target.tokens)
    if target.loss_function is None:
        if measurement.x is None:
            raise NotJudged("it is not known which tensor holds the targets")
        return [TrainedBatch(measurement.x, None, _targets(measurement, target.ignored), target.probe.batch)]
    batches = []
    for step in range(MEASURED_STEPS if target.varies else 1):
        batch = target.batch(step)
        batch = batch if target.fixed_shape else first_rows(batch, MEASURED_ROWS)
        one = measured_loss(target, batch)
        if one.reading.form == "other":
            raise unknown
        x = tokens.x(batch)[: len(one.logits)]
        batches.append(TrainedBatch(x, None, _targets(one, target.ignored).to(x.device), batch))
    return batches


def _targets(measurement: Measurement, ignored: int) -> Tensor:
    reading = measurement.reading
    return reading.targets.masked_fill(~reading.counted, ignored)


def _shift(target: Target, measurement: Measurement | None) -> int | None:
    """Return the shift between the batch's targets and the trained ones, None if it is unknown."""
    if measurement is None or measurement.y is None:
        return None
    shifts = _agreeing(measurement, target.ignored)
    if len(shifts) > 1 and target.loss_function is not None:
        # The data repeat, so several shifts agree: look at labels in another order.
        other = _with_shuffled_labels(target)
        if other is not None:
            shifts = [shift for shift in _agreeing(other, target.ignored) if shift in shifts] or shifts
    return shifts[0] if shifts else None


def _agreeing(measurement: Measurement, ignored: int) -> list[int]:
    """Return the shifts that agree with the trained targets; first those that also explain which positions count."""
    y = measurement.y
    reading = measurement.reading
    assert y is not None
    choices = [reading.targets]
    if measurement.logits.shape[2] == 2:
        choices.append(1 - reading.targets)  # Of two classes, the gradient alone does not tell which one is raised.
    for targets in choices:
        agreeing = []
        for shift in SHIFTS:
            moved = shifted(y, shift)
            if agreement(moved, targets, reading.counted) > AGREEMENT:
                expected = (moved != UNKNOWN) & (moved != ignored)
                agreeing.append((bool((expected != reading.counted).any()), shift))
        if agreeing:
            exact = [shift for differs, shift in agreeing if not differs]
            return exact or [shift for _, shift in agreeing]
    return []


def _with_shuffled_labels(target: Target) -> Measurement | None:
    """Measure the stated loss on the probe with its counted targets in another order; None if that is impossible."""
    tokens = required(target.tokens)
    assert tokens.y is not None
    batch = target.probe.batch
    y = tokens.y(batch)
    counted = y != target.ignored
    values = y[counted]
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(0)).to(y.device)
    changed = with_tensor(batch, y, y.masked_scatter(counted, values[order]))
    if torch.equal(tokens.x(changed), tokens.x(batch)) and not torch.equal(tokens.y(changed), y):
        try:
            return measured_loss(target, changed)
        except Exception:  # A loss may accept only the labels that go with its inputs.
            return None
    return None
