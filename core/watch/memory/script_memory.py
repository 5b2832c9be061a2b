"""What holds the memory of a script's steps: the script runs in a child process, and is ended after a few of them."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

from tui_lab.core.watch.memory.step_memory import (
    Growth,
    Kept,
    KeptPart,
    LossInput,
    Moment,
    OtherPart,
    Phase,
    StepMemory,
)
from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.tried_run import TriedRun

_BEGIN = "tui_lab.core.watch.memory.child"
N_STEPS = 6
"""By default: three to warm up, then as many as show what becomes more from step to step."""
MIN_STEPS = 4
LARGER = 1.1
"""Times what the shown step keeps: more of a step whose peak was not measured is said."""


@dataclass(frozen=True)
class ScriptMemory:
    """step: the one that needs most. n_steps: made. most: bytes at once in any measured step, None if it is not known.

    process: resident when torch was imported. peak: resident, of the process, until its third backward pass.
    capacity: of the device, or of the machine. out_of_memory: the error with which the script ended, or "".
    """

    step: StepMemory
    n_steps: int
    process: int | None
    peak: int | None
    capacity: int | None
    growth: Growth | None
    out_of_memory: str
    errors: tuple[str, ...]
    killed: int | None = None
    """The exit code of a process that ended before it could write all, negative for a signal."""
    larger: StepMemory | None = None
    """The step that kept most for its backward pass, if its peak was not measured and `step` kept less."""
    created: tuple[str, ...] = ()
    """Files and folders that the script has created, below the folder in which it ran; a folder ends with a slash."""

    @property
    def most(self) -> int | None:
        return most_of(self.step)

    @property
    def phase(self) -> Phase | None:
        """The phase of the peak."""
        most = self.step.most or {}
        return max(most.items(), key=lambda each: each[1])[0] if most else None


def most_of(step: StepMemory) -> int | None:
    """Return the peak of a step in bytes; None if it is not known."""
    return max(step.most.values()) if step.most else None


@dataclass
class _Lines:
    """What the script's process has written so far."""

    steps: list[StepMemory] = field(default_factory=list)
    incomplete_step: StepMemory | None = None
    process: int | None = None
    whole: Mapping[str, Any] = field(default_factory=dict)
    ended: Mapping[str, Any] | None = None

    def add(self, record: Mapping[str, Any]) -> None:
        match record:
            case {"step": step}:
                self.steps.append(_step(step))
            case {"incomplete_step": step}:
                self.incomplete_step = _step(step)
            case {"process": process}:
                self.process = process
            case {"whole": whole}:
                self.whole = whole
            case {"ended": ended}:
                self.ended = ended


def measure_script(script: ScriptToRun, n_steps: int = N_STEPS, seed: int = 0) -> ScriptMemory:
    """Run a script until it has made `n_steps` updates. It writes no checkpoint and changes no existing file.

    seed: of all generators, for a script that sets none. Raises ConfigError if the script makes no update.
    """
    written = _Lines()
    run = TriedRun(script, _BEGIN, {"seed": seed, "n_steps": n_steps})
    with closing(run.records()) as records:
        for record in records:
            written.add(record)
    steps = written.steps if written.incomplete_step is None else [written.incomplete_step]
    if not steps:
        raise run.no_step("memory")
    return replace(_result(written, steps), killed=None if written.whole else run.code)


def _result(written: _Lines, steps: Sequence[StepMemory]) -> ScriptMemory:
    largest = max(steps, key=lambda step: (most_of(step) or 0, step.n))
    growth = written.whole.get("growth")
    ended = written.ended or {}
    return ScriptMemory(
        step=largest,
        n_steps=len(written.steps),
        process=written.process,
        peak=written.whole.get("peak"),
        capacity=written.whole.get("capacity"),
        growth=None if growth is None else Growth(**growth),
        out_of_memory=str(ended.get("error", "")) if written.incomplete_step is not None else "",
        errors=tuple(written.whole.get("errors", ())),
        larger=larger_step(written.steps, largest),
        created=tuple(written.whole.get("created", ())),
    )


def larger_step(steps: Sequence[StepMemory], shown: StepMemory) -> StepMemory | None:
    """Return the step that kept most, if its peak is not known and it kept more than the one that is shown."""
    most = max(steps, key=_kept_bytes, default=shown)
    is_more = shown.most is not None and most.most is None and _kept_bytes(most) > LARGER * _kept_bytes(shown)
    return most if is_more else None


def _kept_bytes(step: StepMemory) -> int:
    return 0 if step.kept is None else step.kept.activations + step.kept.loss


def _step(record: Mapping[str, Any]) -> StepMemory:
    """Return the step that a line describes."""
    kept = record["kept"]
    logits = record["logits"]
    others = record["others"]
    moments = record["moments"]
    if kept is not None:
        kept = Kept(**kept | {"parts": tuple(KeptPart(**part) for part in kept["parts"])})
    parts = {
        "kept": kept,
        "logits": None if logits is None else LossInput(**logits | {"shape": tuple(logits["shape"])}),
        "others": None if others is None else tuple(OtherPart(**other) for other in others),
        "optimizers": tuple(record["optimizers"]),
        "moments": None if moments is None else tuple(Moment(**moment) for moment in moments),
    }
    return StepMemory(**dict(record) | parts)
