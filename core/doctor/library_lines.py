"""The user's line that a finding is about, where a library runs the loop, such as the Trainer of transformers.

Every call of such a loop comes from one line of the user, `trainer.train()`, which says nothing. The line that the
library was given the faulty part in is looked for in the script instead.
"""

import linecache
import sys
from collections.abc import Mapping

from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.loop.reading import line_of
from tui_lab.core.doctor.loop.record import LoopRecord
from tui_lab.core.user_code.shown_file import real_file, shown_file
from tui_lab.core.user_code.source_lines import (
    Match,
    is_call,
    is_freezing,
    is_half_precision,
    is_key,
    is_keyword,
    only_line,
)
from tui_lab.core.user_code.user_files import is_user_code

OF_THE_LOSS: frozenset[FindingCode] = frozenset((
    "double_softmax", "double_shift", "missing_log_softmax", "scrambled_logits", "summed_loss", "wrong_divisor",
    "gradient_ascent", "output_broadcast", "double_sigmoid", "shifted_targets", "copied_targets", "detached_loss",
    "accumulation_not_divided",
))  # fmt: skip
"""Findings that a loss function of the user may have caused."""
OF_A_LOOP = ("backward", "step")
"""What the line of a loop that the user wrote calls."""
LABELS = (is_key("labels"), is_keyword("data_collator", "collate_fn"))
SOFTMAX = (is_call("softmax", "Softmax"),)
RATE = (is_keyword("learning_rate", "lr"),)
PARTS: Mapping[FindingCode, tuple[Match, ...]] = {
    "double_softmax": SOFTMAX,
    "padding_attended": (is_key("attention_mask"), *LABELS[1:]),
    "shifted_targets": LABELS,
    "copied_targets": LABELS,
    "double_shift": LABELS,
    "unmasked_targets": LABELS,
    "ignored_targets": LABELS,
    "prompt_trained": (is_keyword("completion_only_loss", "assistant_only_loss"), *LABELS),
    "padding_trained": (is_keyword("label_pad_token_id"), *LABELS),
    "end_never_target": LABELS,
    "leaked_validation": (is_keyword("eval_dataset"),),
    "not_shuffled": (is_keyword("train_dataset"),),
    "lr_schedule": (is_keyword("warmup_steps", "warmup_ratio"), is_keyword("lr_scheduler_type")),
    "lr_too_high": RATE,
    "lr_too_low": RATE,
    "updates_lost": (is_half_precision,),
    "frozen_parameters": (is_freezing,),
    "missing_gradient": (is_freezing,),
}
"""Where a part that may be faulty is given to a library, the most telling place first."""


def library_line(record: LoopRecord) -> str:
    """Return the line of the user that runs the whole loop; "" if the user wrote the loop."""
    if not record.updates or record.is_rehearsal:
        return ""
    backward = line_of(record.updates[0], "backward")
    file, _, number = backward.rpartition(":")
    if backward != line_of(record.updates[0], "step") or not number.isdecimal():
        return ""
    text = linecache.getline(real_file(file), int(number))
    return "" if not text or any(word in text for word in OF_A_LOOP) else backward


def part_line(finding: Finding, record: LoopRecord, library: str) -> str:
    """Return the line of the script that gives the library the faulty part; "" if none or several may be it.

    library: what `library_line` returned.
    """
    criteria = [call.line for call in record.observed.criteria]
    own_loss = next((line for line in criteria if line and line != library), "")
    if own_loss and finding.code in OF_THE_LOSS:
        return own_loss
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    if not script or not is_user_code(script):
        return ""
    for match in PARTS.get(finding.code, ()):
        place = only_line([script], match)
        if place is not None:
            return f"{shown_file(place[0])}:{place[1]}"
    return ""
