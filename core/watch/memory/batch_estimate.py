"""How the memory of a step grows with the rows of its batch, from one measured step."""

from dataclasses import dataclass

from tui_lab.core.watch.memory.script_memory import ScriptMemory

USABLE = 0.9
"""Of a device's memory: the rest is lost to fragments and to what libraries take."""


@dataclass(frozen=True)
class BatchEstimate:
    """rows: of the measured batch. per_row: bytes. twice: the most at once with twice the rows.

    fits: rows with which the most at once is 90 % of the memory; None if its size is not known.
    """

    rows: int
    per_row: int
    twice: int
    fits: int | None


def batch_estimate(memory: ScriptMemory) -> BatchEstimate | None:
    """Return the estimate; None if the rows are not known or what is kept does not grow in proportion to them.

    A further row adds what autograd keeps of it and its part of the batch. The most in the optimizer's step stays.
    """
    step = memory.step
    if not step.rows or step.kept is None or step.kept.per_row is None or not step.most or memory.out_of_memory:
        return None
    per_row = step.kept.per_row + (step.batch or 0) / step.rows
    in_passes = max(step.most.get("forward", 0), step.most.get("backward", 0))
    elsewhere = max(step.most.get("between", 0), step.most.get("update", 0))
    twice = max(elsewhere, int(in_passes + step.rows * per_row))
    return BatchEstimate(step.rows, int(per_row), twice, _fitting(memory, per_row, in_passes))


def _fitting(memory: ScriptMemory, per_row: float, in_passes: int) -> int | None:
    """Return how many rows fit."""
    if memory.capacity is None or not memory.step.rows or per_row < 1:
        return None
    # On a CPU the process itself lies in the same memory.
    process = max(0, (memory.peak or 0) - (memory.most or 0)) if memory.step.device == "cpu" else 0
    free = USABLE * memory.capacity - process - in_passes
    return max(0, int(memory.step.rows + free / per_row))
