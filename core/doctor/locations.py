"""The line of the user's code that a finding is about, where its check does not know a better one."""

from dataclasses import replace

from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.library_lines import library_line, part_line
from tui_lab.core.doctor.loop.lines import class_line
from tui_lab.core.doctor.loop.reading import line_of
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


def located(finding: Finding, target: Target) -> Finding:
    """Return the finding with a location, if one is known: of the loss, the optimizer or the class of the model.

    Where a library runs the loop, the line that gives it the faulty part is better than the one that starts it.
    """
    record = target.record
    if record is not None and (library := library_line(record)) and finding.location in ("", library):
        line = part_line(finding, record, library)
        if line:
            return replace(finding, location=line)
    if finding.location:
        return finding
    if finding.code in OF_THE_MODEL:
        return replace(finding, location=class_line(target.model, ""))
    if record is None:
        return finding
    if finding.code in OF_THE_OPTIMIZER and len(target.optimizers) == 1:
        return replace(finding, location=record.created_at)
    if finding.code in OF_THE_LOSS:
        lines = [call.line for call in record.observed.criteria]
        lines += [line_of(update, "backward") for update in record.updates[:1]]
        return replace(finding, location=next(filter(None, lines), ""))
    return finding
