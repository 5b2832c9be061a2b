"""The line of the user's code that a finding is about, where its check does not know a better one."""

from dataclasses import replace

from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.library_lines import library_line, part_line
from tui_lab.core.doctor.loop.lines import class_line
from tui_lab.core.doctor.loop.reading import line_of
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.doctor.model_lines import attention_line, softmax_line
from tui_lab.core.doctor.program.target import Target

OF_THE_LOSS: frozenset[FindingCode] = frozenset((
    "double_softmax", "double_shift", "missing_log_softmax", "scrambled_logits", "summed_loss", "wrong_divisor",
    "gradient_ascent", "output_broadcast", "double_sigmoid", "shifted_targets", "copied_targets", "unmasked_targets",
    "ignored_targets",
))  # fmt: skip
OF_THE_OPTIMIZER: frozenset[FindingCode] = frozenset((
    "stale_optimizer", "missing_from_optimizer", "lr_too_high", "lr_too_low", "weight_decay_too_high", "decayed_norms",
))  # fmt: skip
OF_THE_MODEL: frozenset[FindingCode] = frozenset((
    "missing_gradient", "batch_mixing", "no_context", "input_ignored", "no_positions", "activated_logits",
    "frozen_parameters", "unregistered_parameters", "tied_head", "output_shape", "nondeterministic", "random_in_eval",
    "dropout_in_eval", "mode_difference", "prefix_differs",
))  # fmt: skip
OF_A_CALL: frozenset[FindingCode] = frozenset(("double_softmax", "padding_attended"))
"""Findings about one call in the model."""
OF_A_CRITERION: frozenset[FindingCode] = OF_THE_LOSS - {"gradient_ascent"}
"""Findings about what a loss function gets or averages over; a sign may be wrong at backward(), too."""


def located(finding: Finding, target: Target) -> Finding:
    """Return the finding with a location, if one is known: of the loss, the optimizer or the class of the model.

    Where a library runs the loop, the line that gives it the faulty part is better than the one that starts it.
    """
    record = target.record
    if finding.code in OF_A_CALL and (line := _line_in_model(finding, target)):
        return replace(finding, location=line)
    if record is not None and (library := library_line(record)) and finding.location in ("", library):
        line = part_line(finding, record, library)
        if line:
            return replace(finding, location=line)
    if record is not None and finding.code in OF_A_CRITERION and (line := _line_of_criterion(finding, record)):
        return replace(finding, location=line)
    if finding.location:
        return finding
    if finding.code in OF_THE_MODEL:
        return replace(finding, location=class_line(target.model, ""))
    if record is None:
        return finding
    if finding.code == "padding_attended" and record.updates:
        line = class_line(target.model, "") or line_of(record.updates[0], "forward")
        return replace(finding, location=line)
    if finding.code in OF_THE_OPTIMIZER and len(target.optimizers) == 1:
        return replace(finding, location=record.created_at)
    if finding.code in OF_THE_LOSS:
        lines = [call.line for call in record.observed.criteria]
        lines += [line_of(update, "backward") for update in record.updates[:1]]
        return replace(finding, location=next(filter(None, lines), ""))
    return finding


def _line_in_model(finding: Finding, target: Target) -> str:
    """Return the line of the user's model that makes the call that a finding is about; "" if it is not known."""
    try:
        return softmax_line(target) if finding.code == "double_softmax" else attention_line(target)
    except Exception:  # Of the user's model: a finding without a line is better than none.
        return ""


def _line_of_criterion(finding: Finding, record: LoopRecord) -> str:
    """Return the only line that calls a loss function of torch, which says more than that of backward(); or ""."""
    lines = {call.line for call in record.observed.criteria}
    backwards = {event.line for update in record.updates for event in update.events_of("backward")}
    return lines.pop() if len(lines) == 1 and finding.location in {"", *backwards} else ""
