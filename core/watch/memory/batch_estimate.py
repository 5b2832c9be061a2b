"""How the memory of a step grows with the rows of its batch, from one measured step."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from tui_lab.core.watch.memory.script_memory import ScriptMemory
from tui_lab.core.watch.memory.step_memory import StepMemory

USABLE = 0.9
"""Of a device's memory: the rest is lost to fragments and to what libraries take."""

FAR = 1000
"""Times the measured rows: of more, the estimate says nothing."""


@dataclass(frozen=True)
class BatchEstimate:
    """rows: of the measured batch. per_row: bytes that autograd keeps of a row. twice: at once with twice the rows.

    fits: rows with which the peak is 90 % of the memory; None if its size is not known, or if the rows are far more
    than the measured ones.
    """

    rows: int
    per_row: int
    twice: int
    fits: int | None


def batch_estimate(memory: ScriptMemory) -> BatchEstimate | None:
    """Return the estimate; None if the rows are not known or what is kept does not grow in proportion to them.

    Weights, buffers, optimizer state, other tensors, and what is fixed at a moment stay. The rest is taken to grow with
    the rows: what is kept, and what operations need for a moment.
    """
    step = memory.step
    if not step.rows or step.kept is None or step.kept.per_row is None or not step.most or memory.out_of_memory:
        return None
    others = sum(other.bytes for other in step.others or ())
    fixed = (step.weights or 0) + (step.buffers or 0) + (step.optimizer or 0) + others
    moments = _moments(step, fixed)
    per_row = int(step.kept.per_row + (step.batch or 0) / step.rows)
    twice = max(each.fixed + 2 * each.growing for each in moments)
    return BatchEstimate(step.rows, per_row, twice, _fitting(memory, moments))


class _Moment(NamedTuple):
    """Bytes at one time of the step."""

    fixed: int
    growing: int


def _moments(step: StepMemory, fixed: int) -> list[_Moment]:
    """Return the moments of a step; where they are not known, the most of its phases. fixed: in all of them."""
    if step.moments is not None:
        return [_Moment(fixed + each.fixed, max(0, each.total - each.fixed - fixed)) for each in step.moments]
    most = step.most or {}
    elsewhere = max(most.get("between", 0), most.get("update", 0))
    # Gradients that are there in the forward pass; how many there are at the peak of the backward pass is not known.
    early = step.early_gradients if step.early_fate in ("zeroed", "kept") else 0
    passes = max(most.get("forward", 0), most.get("backward", 0))
    return [_Moment(elsewhere, 0), _Moment(fixed + early, max(0, passes - fixed - early))]


def _fitting(memory: ScriptMemory, moments: Sequence[_Moment]) -> int | None:
    """Return how many rows fit."""
    if memory.capacity is None or not memory.step.rows:
        return None
    # On a CPU the process itself lies in the same memory.
    process = max(0, (memory.peak or 0) - (memory.most or 0)) if memory.step.device == "cpu" else 0
    free = USABLE * memory.capacity - process
    ratios = [(free - each.fixed) / each.growing for each in moments if each.growing]
    ratio = max(0.0, min(ratios, default=FAR + 1))
    return int(memory.step.rows * ratio) if ratio <= FAR else None
