"""What was not found out about the memory of a script's steps, and why."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from tui_lab.core.kernels.memory_estimate import size
from tui_lab.core.watch.memory.script_memory import MIN_STEPS, ScriptMemory
from tui_lab.core.watch.memory.step_memory import Kept

GapCode = Literal[
    "out_of_memory",
    "too_few_steps",
    "peak",
    "larger_step",
    "no_backward_pass",
    "compiled",
    "unseen_tensors",
    "rows",
    "square_of_rows",
    "killed",
    "own_error",
]


@dataclass(frozen=True)
class Gap:
    code: GapCode
    text: str


def gaps(memory: ScriptMemory) -> list[Gap]:
    """Return what a reader of the account must know about what is missing in it."""
    return [*_of_peak(memory), *_of_kept(memory), *_of_estimate(memory), *_of_process(memory)]


def _of_peak(memory: ScriptMemory) -> Iterator[Gap]:
    step = memory.step
    if memory.out_of_memory:
        yield Gap("out_of_memory", f"the script ran out of memory in step {step.n}: {memory.out_of_memory}")
    elif memory.n_steps < MIN_STEPS and memory.killed is None:
        steps = "1 step" if memory.n_steps == 1 else f"{memory.n_steps} steps"
        text = f"the script ended after {steps}; the peak is not known, since at least {MIN_STEPS} are needed for it"
        yield Gap("too_few_steps", text)
    elif memory.most is None:
        yield Gap("peak", "the peak is not known: it is measured from the fourth step on")
    larger = memory.larger
    if larger is not None and larger.kept is not None and step.kept is not None:
        of_larger = size(larger.kept.activations + larger.kept.loss)
        of_step = size(step.kept.activations + step.kept.loss)
        # The first step is known to have ended only after the backward pass of the second one.
        which = "1 or 2" if larger.n <= 2 else str(larger.n)
        text = f"step {which}, whose peak was not measured, kept {of_larger} for its backward pass, step {step.n} "
        text += f"only {of_step}: the peak of the script is higher; with more --steps, such a step may come again"
        yield Gap("larger_step", text)


def _of_kept(memory: ScriptMemory) -> Iterator[Gap]:
    kept: Kept | None = memory.step.kept
    if kept is None:
        yield Gap("no_backward_pass", "activations are not known: no backward pass was seen")
        return
    if kept.compiled:
        text = f"torch.compile's code keeps {size(kept.compiled)} of the activations; the modules are not known"
        yield Gap("compiled", text)
    if kept.unseen:
        yield Gap("unseen_tensors", f"{kept.unseen} kept tensors have no known size and are not in the sum")


def _of_estimate(memory: ScriptMemory) -> Iterator[Gap]:
    step = memory.step
    if memory.out_of_memory or step.kept is None:
        return
    if step.rows is None:
        text = "how it grows with the batch is not known: it is not certain which dimension of the batch has its rows"
        yield Gap("rows", text)
    elif step.kept.per_row is None:
        text = "there is no estimate for other batches: a part of what is kept grows with the square of the rows"
        yield Gap("square_of_rows", text)


def _of_process(memory: ScriptMemory) -> Iterator[Gap]:
    if memory.killed is not None:
        cause = "; -9 often means that the system ran out of memory" if memory.killed == -9 else ""
        yield Gap("killed", f"the process ended with code {memory.killed} after step {memory.n_steps}{cause}")
    for error in memory.errors:
        yield Gap("own_error", f"part of the measurement failed (a bug in tui-lab): {error}")
