"""How fast a script's steps are, and with which changes they are faster: the script runs in a child process."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core.watch.process.recorded_script import ScriptToRun
from tui_lab.core.watch.process.tried_run import TriedRun
from tui_lab.core.watch.speed.comparison import Ratio, ratio_of
from tui_lab.core.watch.speed.line_sampler import Line
from tui_lab.core.watch.speed.phases import Phase
from tui_lab.core.watch.speed.turns import AS_IT_IS, TOGETHER, Block
from tui_lab.util.errors import ConfigError
from tui_lab.util.plural import counted

_BEGIN = "tui_lab.core.watch.speed.child"
SECONDS = 40.0
"""How long steps are measured, by default."""
N_STEPS = 15
"""That a script must make: at most ten to warm up, and five of which it is measured where their time goes."""


@dataclass(frozen=True)
class StepTime:
    """Of the script as it is. phases: seconds of a step. n_steps: measured.

    lines: shares of the time, the largest first. tokens, samples: of a step, 0 if unknown. rows: of a batch. workers:
    of the DataLoader, None if none was used.
    """

    n_steps: int
    phases: Mapping[Phase, float]
    lines: Sequence[tuple[Line, float]]
    tokens: float
    samples: float
    rows: int
    device: str
    threads: int
    workers: int | None
    model: str
    optimizers: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Of a step, without evaluations."""
        return sum(seconds for phase, seconds in self.phases.items() if phase != "evaluation")


OnStepTime = Callable[[StepTime, float | None], None]
"""Gets how long a step takes, and the seconds that the fewest rounds take which show a difference, if any begin."""


@dataclass(frozen=True)
class Tried:
    """A change that was tried. code: how a script makes it. ratio: None if `error` says why there is none."""

    name: str
    text: str
    code: str
    ratio: Ratio | None
    error: str = ""


@dataclass(frozen=True)
class ScriptSpeed:
    """not_tried: why, by the name of the change. n_steps: of all turns.

    ended: why the script ended before all was measured, or "". has_failed: whether an error of its own ended it.
    errors: of our own hooks.
    """

    step: StepTime
    tried: tuple[Tried, ...]
    not_tried: Mapping[str, str]
    n_steps: int
    ended: str
    has_failed: bool
    errors: tuple[str, ...]


@dataclass
class _Written:
    """What the script's processes have written so far."""

    step: StepTime | None = None
    changes: dict[str, Mapping[str, str]] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)
    turn: str = AS_IT_IS
    n_rounds: int = 0
    """Of the processes before."""
    n_steps: int = 0
    """Of a script that has ended by itself."""
    seconds: float | None = None
    """That the fewest rounds take which show a difference; None if none have begun."""
    is_shown: bool = False
    is_done: bool = False
    errors: list[str] = field(default_factory=list)

    def add(self, record: Mapping[str, Any]) -> None:
        match record:
            case {"parts": parts}:
                self.step = self.step or _step_time(parts)
            case {"changes": changes, "refused": refused, "seconds": seconds}:
                self.changes = {**changes, **self.changes}
                self.refused = refused
                self.seconds = seconds
            case {"restart": _}:
                self.restart()
            case {"together": together}:
                self.changes[TOGETHER] = together
            case {"turn": turn}:
                self.turn = turn
            case {"block": block}:
                self.blocks.append(Block(**block | {"round": self.n_rounds + block["round"]}))
            case {"n_steps": n_steps}:
                self.n_steps = n_steps
            case {"done": _}:
                self.is_done = True
            case {"error": error}:
                self.errors.append(error)

    def restart(self) -> None:
        """Another training of the script begins, which is measured instead."""
        self.step = None
        self.changes = {}
        self.blocks = []
        self.turn = AS_IT_IS
        self.seconds = None
        self.is_shown = False

    def show(self, on_step_time: OnStepTime) -> None:
        """Pass on how long a step takes, once, if it is known."""
        if self.step is not None and not self.is_shown:
            self.is_shown = True
            on_step_time(self.step, self.seconds)

    def begin_process(self) -> None:
        """Another process begins: none of its rounds is one of those before."""
        self.turn = AS_IT_IS
        self.n_steps = 0
        self.n_rounds = max((block.round for block in self.blocks), default=-2) + 2


def measure_speed(
    script: ScriptToRun,
    seconds: float = SECONDS,
    *,
    compile_too: bool = False,
    on_step_time: OnStepTime = lambda step, seconds: None,
    seed: int = 0,
) -> ScriptSpeed:
    """Run a script until its speed is measured. It writes no checkpoint and changes no existing file.

    A change with which the script fails is left out, and the script runs again. compile_too: also try torch.compile,
    whose first steps may take minutes. on_step_time: called when it is known. seed: of all generators, for a script
    that sets none. Raises ConfigError if the script makes no step.
    """
    written = _Written()
    failed: dict[str, str] = {}
    ends: list[tuple[str, int]] = []
    """The error of each process, and its number of steps."""
    while True:
        plan = {"seconds": seconds, "without": list(failed), "compile_too": compile_too}
        run = TriedRun(script, _BEGIN, {"seed": seed, "plan": plan})
        error = _read(run, written, on_step_time)
        if not error or written.turn == AS_IT_IS:
            break
        if (error, written.n_steps) in ends:  # The change that was on is not the reason, then and now.
            failed = {name: other for name, other in failed.items() if other != error}
            break
        ends.append((error, written.n_steps))
        failed[written.turn] = error
    if written.step is None:
        raise _too_few_steps(script, written.n_steps) if written.n_steps and not error else run.no_step("speed")
    return _result(written, written.step, failed, error)


def _too_few_steps(script: ScriptToRun, n_steps: int) -> ConfigError:
    message = f"ended after {counted(n_steps, 'step')}; {N_STEPS} are enough, and hundreds to compare changes"
    return ConfigError.of("user_code", message, value=script.target.script)


def _read(run: TriedRun, written: _Written, on_step_time: OnStepTime) -> str:
    """Read all that a process of the script writes; return the error that ended it, or ""."""
    written.begin_process()
    with closing(run.records()) as records:
        for record in records:
            written.add(record)
            if written.seconds is not None:
                written.show(on_step_time)
    written.show(on_step_time)
    if run.ended is not None:
        return str(run.ended["error"])
    return f"its process ended with code {run.code}" if run.code else ""


def _result(written: _Written, step: StepTime, failed: Mapping[str, str], error: str) -> ScriptSpeed:
    ended = "" if written.is_done else error or f"it made only {counted(written.n_steps, 'step')}"
    tried = [
        Tried(name, change["text"], change["code"], ratio_of(name, written.blocks), failed.get(name, ""))
        for name, change in written.changes.items()
    ]
    n_block_steps = sum(block.n_steps for block in written.blocks)
    return ScriptSpeed(
        step=step,
        tried=tuple(tried),
        not_tried=written.refused,
        n_steps=n_block_steps,
        ended=ended,
        has_failed=bool(error),
        errors=tuple(written.errors),
    )


def _step_time(parts: Mapping[str, Any]) -> StepTime:
    n = parts["n_steps"]
    size = parts["size"]
    lines = Counter({Line(place, function): seconds for place, function, seconds in parts["lines"]})
    total = sum(lines.values()) or 1.0
    return StepTime(
        n_steps=n,
        phases={phase: seconds / n for phase, seconds in parts["phases"].items()},
        lines=tuple((line, seconds / total) for line, seconds in lines.most_common()),
        tokens=size["n_tokens"] / n,
        samples=size["n_samples"] / n,
        rows=size["rows"],
        device=parts["device"],
        threads=parts["threads"],
        workers=parts["workers"],
        model=parts["model"],
        optimizers=tuple(parts["optimizers"]),
    )
