"""`tui-lab memory SCRIPT.py`: what holds the memory of a script's steps."""

from collections.abc import Iterator
from dataclasses import asdict

from rich.table import Table
from rich.text import Text

from tui_lab.cli.output import console, say, write_json
from tui_lab.cli.signals import interrupt_on_signals
from tui_lab.core.kernels.memory_estimate import size
from tui_lab.core.watch.memory.advice import Advice, advice
from tui_lab.core.watch.memory.batch_estimate import BatchEstimate, batch_estimate
from tui_lab.core.watch.memory.gaps import gaps
from tui_lab.core.watch.memory.script_memory import N_STEPS, ScriptMemory, measure_script, most_of
from tui_lab.core.watch.memory.step_memory import Kept, KeptPart, OtherPart, StepMemory
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, FAILED

UNKNOWN = "not known"
PHASES = {
    "between": "before the forward pass",
    "forward": "in the forward pass",
    "backward": "in the backward pass",
    "update": "in the optimizer's step",
}
SMALL = 0.01
"""Of the peak: other tensors that are not listed."""
WIDTH = 52
"""Of the first column, so that the table fits 80."""
INDENT = "  "
MAX_CREATED = 6
"""Names of created files that are printed."""
Row = tuple[str, str]
"""A part, and its size."""


def show_script_memory(script: ScriptToRun, n_steps: int | None, *, as_json: bool) -> int:
    """Run a script for a few steps and print a table, or JSON in bytes. Raises ConfigError if it makes no step.

    The exit code is FAILED if the script ran out of memory; then what is known is printed.
    """
    name = script.target.script
    n_steps = n_steps or N_STEPS
    if not as_json:
        say(f"memory: running {name} for {n_steps} steps; it writes no checkpoint and changes no existing file")
    with interrupt_on_signals():  # So that the process of the script ends with this one.
        memory = measure_script(script, n_steps)
    estimate = batch_estimate(memory)
    all_advice = advice(memory)
    missing = gaps(memory)
    if as_json:
        write_json(
            {
                "source": name,
                "estimated": None,
                "measured": asdict(memory) | {"most": memory.most, "phase": memory.phase},
                "batch": None if estimate is None else asdict(estimate),
                "advice": [asdict(each) for each in all_advice],
                "gaps": [asdict(each) for each in missing],
            }
        )
    else:
        console().print(table_of(memory))
        gap_lines = (gap.text for gap in missing)
        for line in (*_of_batch(memory, estimate), *_of_advice(all_advice), *gap_lines, *_of_created(memory)):
            console().print(Text(printable(line)))
    return FAILED if memory.out_of_memory else DONE


def table_of(memory: ScriptMemory) -> Table:
    """Return the parts of the step that needs most."""
    step = memory.step
    table = Table(title=f"Memory of step {step.n}, {step.device}", title_justify="left")
    table.add_column("part", max_width=WIDTH)
    table.add_column("size", justify="right")
    for row in _parts(step):
        table.add_row(*map(Text, row))
    table.add_section()
    for row in _totals(memory):
        table.add_row(*map(Text, row))
    return table


def _parts(step: StepMemory) -> Iterator[Row]:
    yield "weights" + (f", {size(step.frozen)} of them frozen" if step.frozen else ""), _size(step.weights)
    if step.buffers:
        yield "buffers", _size(step.buffers)
    yield "gradients", _size(step.gradients)
    of_optimizers = f" of {', '.join(step.optimizers)}" if step.optimizers else ""  # None steps if memory runs out.
    yield f"optimizer state{of_optimizers}", _size(step.optimizer)
    yield from _kept(step.kept)
    yield _of_loss(step), _size(None if step.kept is None else step.kept.loss)
    rows = "" if step.rows is None else f", {step.rows} rows"
    has_parts = step.micro_batches > 1 and len(step.optimizers) < 2  # Two optimizers may have a loss each.
    parts = f", one of {step.micro_batches} micro-batches" if has_parts else ""
    yield f"batch{rows}{parts}", _size(step.batch)
    others = step.others
    yield "other tensors", _size(None if others is None else sum(other.bytes for other in others))
    if sum(other.bytes for other in others or ()) < SMALL * (most_of(step) or 0):
        return
    for other in others or ():
        yield f"{INDENT}{_other(other)}", _size(other.bytes)


def _kept(kept: Kept | None) -> Iterator[Row]:
    yield "activations kept for the backward pass", _size(None if kept is None else kept.activations)
    if kept is None:
        return
    for part in kept.parts:
        yield f"{INDENT}{_part(part)}", _size(part.bytes)


def _part(part: KeptPart) -> str:
    """Return the name of what keeps activations."""
    if not part.kind:
        return "everything else"
    times = f" x {part.n}" if part.n > 1 else ""
    kind = f" {part.kind}{times}"
    return printable(f"{shortened(part.name, WIDTH - len(INDENT) - len(kind))}{kind}".strip())


def shortened(name: str, width: int) -> str:
    """Return the name of a module without its first parts if it is wider than `width`; the last one always stays."""
    parts = name.split(".")
    first = 0
    while len(parts) - first > 1 and len(name) > width:
        first += 1
        name = "…" + ".".join(parts[first:])
    return name


def _other(other: OtherPart) -> str:
    return printable(other.what) or "everything else"


def _of_loss(step: StepMemory) -> str:
    logits = step.logits
    if logits is None:
        return "logits and loss"
    return f"logits and loss, {' x '.join(map(str, logits.shape))} {logits.dtype}"


def _totals(memory: ScriptMemory) -> Iterator[Row]:
    where = "" if memory.phase is None or memory.out_of_memory else f", {PHASES[memory.phase]}"
    yield f"peak{where}", _size(memory.most)
    if memory.step.reserved is not None:
        yield "reserved by the allocator", _size(memory.step.reserved)
    yield "the process when torch was imported", _size(memory.process)
    yield "resident peak of the process", _size(memory.peak)


def _of_batch(memory: ScriptMemory, estimate: BatchEstimate | None) -> Iterator[str]:
    if estimate is None:
        return
    yield (
        f"one more row of the batch needs about {size(estimate.per_row)}; {2 * estimate.rows} rows at once about "
        f"{size(estimate.twice)}"
    )
    if estimate.fits is not None and memory.capacity is not None:
        yield f"about {estimate.fits} rows fit into the {size(memory.capacity)} of memory here"


def _of_advice(all_advice: list[Advice]) -> Iterator[str]:
    for each in all_advice:
        yield f"- {each.text}"


def _of_created(memory: ScriptMemory) -> Iterator[str]:
    if memory.created:
        names = list(memory.created[:MAX_CREATED])
        more = len(memory.created) - len(names)
        yield f"new files of the script, which stay: {', '.join(names)}" + (f" and {more} more" if more else "")


def _size(n: int | None) -> str:
    return UNKNOWN if n is None else size(n)
