"""Do the weights have enough digits for the updates? Cost: none beyond the record of the loop."""

from collections.abc import Iterator

import torch

from tui_lab.core.doctor.findings import Finding, NotApplicable, NotJudged
from tui_lab.core.doctor.loop.observed import Rounding
from tui_lab.core.doctor.loop.reading import line_of
from tui_lab.core.doctor.program.target import Target

MIN_UPDATES = 3
MOST = 0.5
"""Share of the weights, and of the sum of their changes, that must be lost: fine-tuning in bfloat16 at 1e-4 with AdamW
loses 0.7 to 0.9 of both, pretraining at 3e-3 below 0.1."""
MIN_EXPECTED = 10
"""Small changes that rounding at random would make, from which their absence shows that there is none."""
MAX_MADE = 0.25
"""The part of them that is made: exactly 0 where each is rounded to the nearest, 1 with stochastic rounding. In
float16, Adam's second moments lose digits, too, so that its own step differs from that in float32: 0.3."""


def check(target: Target) -> Iterator[Finding]:
    record = target.loop
    dtypes = {p.dtype for p in target.model.parameters() if p.requires_grad}
    if record.moves_by_hand and dtypes & {torch.bfloat16, torch.float16}:
        raise NotJudged("only steps of an optimizer are repeated in float32")
    if not record.observed.rounding:
        raise NotApplicable("no optimizer changes weights in bfloat16 or float16 without keeping what is rounded away")
    for rounding in record.observed.rounding:
        if rounding.n_updates < MIN_UPDATES or not rounding.n:
            raise NotJudged(f"{rounding.n_updates} steps were compared; {MIN_UPDATES} are needed")
        is_nearest = rounding.n_made <= MAX_MADE * rounding.n_expected
        is_most = rounding.n_lost > MOST * rounding.n and rounding.size_lost > MOST * rounding.size
        if is_most and is_nearest and rounding.n_expected >= MIN_EXPECTED:
            yield _finding(rounding, line_of(record.updates[0], "step"))


def _finding(rounding: Rounding, line: str) -> Finding:
    return Finding(
        code="updates_lost",
        title=f"{rounding.n_lost / rounding.n:.0%} of the weight updates are lost, since the weights are in "
        f"{rounding.dtype}.",
        evidence=f"{rounding.n_updates} steps were repeated in float32: {rounding.n_lost:,} of {rounding.n:,} changes "
        f"({rounding.size_lost / rounding.size:.0%} of their sum) leave the {rounding.dtype} weight as it was; "
        f"learning rate {rounding.lr:g}",
        why=f"A change below half of the last digit, 1/{512 if rounding.dtype == 'bfloat16' else 4096} of a weight or "
        "more, is rounded away every time, so small steps never add up.",
        fix="Keep the weights in float32 and run the forward pass under torch.autocast; or let the optimizer keep a "
        "copy of the weights in float32, or round stochastically.",
        location=line,
        explains=("weights_never_move", "lr_too_low", "cannot_overfit"),
    )
