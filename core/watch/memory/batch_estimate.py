"""How the memory of a step grows with the rows of its batch, from one measured step."""

from dataclasses import dataclass

from tui_lab.core.watch.memory.script_memory import ScriptMemory

USABLE = 0.9
"""Of a device's memory: the rest is lost to fragments and to what libraries take."""


@dataclass(frozen=True)
class BatchEstimate:
    """rows: of the measured batch. per_row: bytes that autograd keeps of a row. twice: at once with twice the rows.

    fits: rows with which the peak is 90 % of the memory; None if its size is not known.
    """

    rows: int
    per_row: int
    twice: int
    fits: int | None


def batch_estimate(memory: ScriptMemory) -> BatchEstimate | None:
    """Return the estimate; None if the rows are not known or what is kept does not grow in proportion to them.

    All that is there in the passes besides weights, buffers, optimizer state and other tensors is taken to grow with
    the rows: what is kept, what operations need for a moment, and gradients, too, so that it is rather too high.
    """
    step = memory.step
    if not step.rows or step.kept is None or step.kept.per_row is None or not step.most or memory.out_of_memory:
        return None
    others = sum(other.bytes for other in step.others or ())
    fixed = (step.weights or 0) + (step.buffers or 0) + (step.optimizer or 0) + others
    growing = max(0, max(step.most.get("forward", 0), step.most.get("backward", 0)) - fixed)
    elsewhere = max(step.most.get("between", 0), step.most.get("update", 0))
    per_row = int(step.kept.per_row + (step.batch or 0) / step.rows)
    return BatchEstimate(step.rows, per_row, max(elsewhere, fixed + 2 * growing), _fitting(memory, fixed, growing))


def _fitting(memory: ScriptMemory, fixed: int, growing: int) -> int | None:
    """Return how many rows fit."""
    if memory.capacity is None or not memory.step.rows or growing < 1:
        return None
    # On a CPU the process itself lies in the same memory.
    process = max(0, (memory.peak or 0) - (memory.most or 0)) if memory.step.device == "cpu" else 0
    free = USABLE * memory.capacity - process - fixed
    return max(0, int(memory.step.rows * free / growing))
