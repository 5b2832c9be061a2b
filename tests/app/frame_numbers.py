"""Read the numbers of a painted frame, and whether its parts contradict each other."""

import re
from dataclasses import dataclass
from math import isclose

from tui_lab.app.panes.batch_age import ROUNDED_FROM
from tui_lab.app.panes.status_line import SIGNS

STEP = r"step ([\d,]+)"
STATUS = re.compile(rf"^[{''.join(SIGNS.values())}] .*?  {STEP}")
STATUS_LOSS = re.compile(r"  loss (\S+)")
CHART_LOSS = re.compile(r"[│┃] (?:[▸ ] )?loss  .*?(\S+)(?: {3,}[A-Za-zΔ]| *[│┃])")
"""Of the sparklines, of which a second one may stand beside it."""
READOUT_LOSS = re.compile(r"━ train ([\d.]+)")
BATCH = re.compile(rf"[│┃] {STEP}(?:  (?:about )?([\d,]+) steps? ago|  (next|future|recent))?  (?:epoch \d|[\d,]+ row)")
CURSOR = re.compile(rf"at {STEP}: ")
EVENT = re.compile(rf"\d\d:\d\d:\d\d {STEP}: ")
EXAMPLE = re.compile(r"[│┃] (\d+)/\d+  example ([\d,]+)")
REPLY = re.compile(rf"[│┃] {STEP}(?: \(best\))?: ")

ROUNDING = 0.002


@dataclass(frozen=True)
class FrameNumbers:
    """status: steps done, by the status line. batch: the step of the batch header, and what it says about its age.

    past: steps of which the frame shows something that has happened.
    """

    status: int
    losses: tuple[str, ...]
    """The loss of the latest step in the status line and in the loss pane, where they are visible."""
    batch: tuple[int, int, str] | None
    example: tuple[int, int] | None
    """A row of the batch pane, from 1, and the number of the example that its cells show."""
    past: tuple[int, ...]


def numbers_of(painted: str) -> FrameNumbers | None:
    """Return the numbers of a frame of the lab; None if it has no status line with a step."""
    lines = painted.splitlines()
    status_line, status = next(((line, match) for line in lines if (match := STATUS.search(line))), ("", None))
    if status is None:
        return None
    others = "\n".join(line for line in lines if line != status_line)
    patterns = ((STATUS_LOSS, status_line), (CHART_LOSS, others), (READOUT_LOSS, others))
    losses = [match[1] for pattern, text in patterns if (match := pattern.search(text))]
    header = BATCH.search(others)
    example = EXAMPLE.search(others)
    past = [*CURSOR.findall(others), *EVENT.findall(others), *REPLY.findall(others)]
    return FrameNumbers(
        _number(status[1]),
        tuple(losses),
        None if header is None else (_number(header[1]), _number(header[2] or "0"), header[3] or ""),
        None if example is None else (_number(example[1]), _number(example[2])),
        tuple(_number(step) for step in past),
    )


def contradictions(painted: str) -> list[str]:
    """Return what in a frame of the lab is not of one step, without saying so."""
    numbers = numbers_of(painted)
    if numbers is None:
        return []
    found = []
    if numbers.losses and not all(
        isclose(float(numbers.losses[0]), float(loss), rel_tol=ROUNDING) for loss in numbers.losses
    ):
        found.append(f"losses {' and '.join(numbers.losses)}")
    if any(step > numbers.status for step in numbers.past):
        found.append(f"something of step {max(numbers.past)} at step {numbers.status}")
    if numbers.batch is not None:
        step, age, note = numbers.batch
        ahead = step - numbers.status
        error = {"": age + ahead, "next": ahead - 1, "future": min(0, ahead - 2), "recent": max(0, ahead)}[note]
        if abs(error) > (age // 2 if age >= ROUNDED_FROM else 0):
            found.append(f"batch of step {step}, {age} steps ago {note}, at step {numbers.status}")
    return found


def _number(text: str) -> int:
    return int(text.replace(",", ""))
