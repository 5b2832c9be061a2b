"""What is measured in which step of a script: first where the time goes, then the changes, by turns."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import torch

from tui_lab.core.watch.speed.changes import Change, Seen, Together, possible_changes
from tui_lab.core.watch.speed.comparison import ratio_of
from tui_lab.core.watch.speed.line_sampler import Line, LineSampler
from tui_lab.core.watch.speed.phases import Phase, PhaseClock
from tui_lab.core.watch.speed.turns import AS_IT_IS, TOGETHER, Block, Turns

Stage = Literal["warm-up", "parts", "turns"]
MIN_WARM_UP = 3
"""Steps: the first one knows no model, and its optimizer makes its state."""
MAX_WARM_UP = 10
WARM_UP_SECONDS = 0.5
MIN_PARTS = 5
"""Steps of which it is measured where their time goes."""
MAX_PARTS = 500
SHARE_OF_PARTS = 0.2
"""Of the seconds that are planned."""


@dataclass
class Size:
    """Of the batches of a step. rows: of the latest call of the model."""

    n_tokens: int = 0
    n_samples: int = 0
    rows: int = 0

    @property
    def n(self) -> int:
        return self.n_tokens or self.n_samples or 1


@dataclass
class Parts:
    """Sums over some steps: seconds of each phase, and of each line."""

    n_steps: int = 0
    phases: Counter[Phase] = field(default_factory=Counter)
    lines: "Counter[Line]" = field(default_factory=Counter)
    size: Size = field(default_factory=Size)


@dataclass(frozen=True)
class Plan:
    """seconds: about how long to measure. without: names of changes that are not tried. compile_too: whether
    torch.compile is.
    """

    seconds: float
    without: frozenset[str] = frozenset()
    compile_too: bool = False


class Stages:
    """Decides after each step what the next one measures. plan: what to measure in all.

    write: gets the results, by name, as soon as they are known: "parts", "changes", "turn" where a block begins,
    "block" where it has ended, "restart" where another training begins, "together" if several changes are faster, and
    "done"; "n_steps" if the script ends by itself. end: called after the last step.
    """

    def __init__(
        self, plan: Plan, write: Callable[..., None], end: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self.seen = Seen()
        self.phases = PhaseClock(clock, self._synchronize_parts)
        self.n_workers: int | None = None
        """Of the DataLoader that has most of them; None if none was used."""
        self._plan = plan
        self._write = write
        self._end = end
        self._clock = clock
        self._sampler = LineSampler()
        self._device = "cpu"
        """Of the model; only known after the warm-up."""
        self._stage: Stage = "warm-up"
        self._stage_began = clock()
        self._n_steps = 0
        """Of this stage."""
        self._n_all_steps = 0
        self._parts = Parts()
        self._step_seconds = 0.0
        """Of the script as it is."""
        self._changes: dict[str, Change] = {}
        self._blocks: list[Block] = []
        self._first_round = 0
        """Of the present turns."""
        self._turns: Turns | None = None

    def training(self) -> None:
        """The model is called for training."""
        if self._stage != "parts":
            return
        if self.phases.phase == "evaluation":
            self._sampler.start()
        self.seen.has_autocast |= torch.is_autocast_enabled(self._device)
        self.seen.detects_anomalies |= torch.is_anomaly_enabled()

    def evaluating(self) -> None:
        """The model is called for an evaluation, whose lines are not those of a step."""
        self._parts.lines += self._sampler.stop()
        self.phases.enter("evaluation")

    def restart(self) -> bool:
        """Start over, since another training has begun; return whether the one before was being measured."""
        if self._stage == "warm-up":
            return False
        if self._turns is not None and self._turns.current != AS_IT_IS:
            self._changes[self._turns.current].turn_off()
        self._sampler.stop()
        self.seen = Seen()
        self._parts = Parts()
        self._changes = {}
        self._blocks = []
        self._first_round = 0
        self._turns = None
        self._write(restart=True)
        self._begin("warm-up")
        return True

    def finish(self) -> None:
        """The script has ended."""
        if self._stage == "parts":
            self._end_parts()
        self._sampler.stop()
        self._write(n_steps=self._n_all_steps)

    def step_ended(self, size: Size, *, has_evaluated: bool) -> None:
        """A step has ended, with batches of this size."""
        self._n_steps += 1
        self._n_all_steps += 1
        match self._stage:
            case "warm-up":
                self._warm_up_step()
            case "parts":
                self._parts_step(size)
            case "turns":
                self._turns_step(size, has_evaluated=has_evaluated)

    def _warm_up_step(self) -> None:
        is_warm = self._clock() - self._stage_began >= WARM_UP_SECONDS
        if self._n_steps >= MIN_WARM_UP and (is_warm or self._n_steps >= MAX_WARM_UP):
            self._device = self.seen.device
            self._begin("parts")
            self.phases.take()
            self._sampler.start()

    def _parts_step(self, size: Size) -> None:
        parts = self._parts
        parts.n_steps += 1
        parts.phases.update(self.phases.take())
        parts.size.n_tokens += size.n_tokens
        parts.size.n_samples += size.n_samples
        parts.size.rows = size.rows
        elapsed = self._clock() - self._stage_began
        if parts.n_steps >= MAX_PARTS or (
            parts.n_steps >= MIN_PARTS and elapsed >= SHARE_OF_PARTS * self._plan.seconds
        ):
            self._end_parts()
            self._begin_turns()

    def _end_parts(self) -> None:
        """Write where the time goes, if there were enough steps."""
        parts = self._parts
        parts.lines += self._sampler.stop()
        if parts.n_steps < MIN_PARTS:
            return
        seen = self.seen
        self._write(
            parts={
                "n_steps": parts.n_steps,
                "phases": dict(parts.phases),
                "lines": [[*line, seconds] for line, seconds in parts.lines.most_common()],
                "size": asdict(parts.size),
                "device": self._device,
                "threads": torch.get_num_threads(),
                "workers": self.n_workers,
                "model": "" if seen.model is None else type(seen.model).__name__,
                "optimizers": [type(optimizer).__name__ for optimizer in seen.optimizers],
            }
        )

    def _begin_turns(self) -> None:
        changes, refused = possible_changes(self.seen, compile_too=self._plan.compile_too)
        self._changes = {change.name: change for change in changes if change.name not in self._plan.without}
        described = {change.name: {"text": change.text, "code": change.code} for change in changes}
        parts = self._parts
        training = [seconds for phase, seconds in parts.phases.items() if phase != "evaluation"]
        self._step_seconds = sum(training) / parts.n_steps
        turns = self._take_turns(self._changes, 1 - SHARE_OF_PARTS)
        self._write(changes=described, refused=refused, seconds=turns.least_steps * self._step_seconds)

    def _take_turns(self, changes: Mapping[str, Change], share: float) -> Turns:
        """Begin to compare changes. share: of the seconds that are planned."""
        warm_up = {name: change.n_warm_up for name, change in changes.items()}
        turns = self._turns = Turns(warm_up, self._plan.seconds * share, self._step_seconds, self._clock())
        self._begin("turns")
        return turns

    def _turns_step(self, size: Size, *, has_evaluated: bool) -> None:
        turns = self._turns
        assert turns is not None
        if turns.is_at_limit:
            self._synchronize()
        before = turns.current
        block = turns.step_ended(self._clock(), size.n, has_evaluated=has_evaluated)
        if block is not None:
            block = replace(block, round=self._first_round + block.round)
            self._blocks.append(block)
            self._write(block=asdict(block))
        after = AS_IT_IS if turns.is_over else turns.current
        if after != before:
            self._switch(before, after)
        if turns.is_over and not self._try_together():
            self._write(done=True)
            self._end()

    def _try_together(self) -> bool:
        """Begin to try all changes that are faster, if there are several and they were not tried; return whether so."""
        best: dict[str, tuple[float, Change]] = {}
        for name, change in self._changes.items():
            ratio = ratio_of(name, self._blocks)
            if ratio is not None and ratio.effect == "faster":
                best[change.kind] = max(best.get(change.kind, (0.0, change)), (ratio.median, change), key=_median)
        if len(best) < 2 or TOGETHER in self._changes or TOGETHER in self._plan.without:
            return False
        together = Together([change for _, change in best.values()])
        self._changes[TOGETHER] = together
        self._write(together={"text": together.text, "code": together.code})
        self._first_round = self._blocks[-1].round + 2  # No block is between those of other rounds.
        self._take_turns({TOGETHER: together}, SHARE_OF_PARTS)
        return True

    def _switch(self, before: str, now: str) -> None:
        if before != AS_IT_IS:
            self._changes[before].turn_off()
        if now != AS_IT_IS:
            self._write(turn=now)
            self._changes[now].turn_on()
        else:
            self._write(turn="")

    def _begin(self, stage: Stage) -> None:
        self._stage = stage
        self._stage_began = self._clock()
        self._n_steps = 0

    def _synchronize_parts(self) -> None:
        """Wait for the GPU between the parts of a step; in the turns its work must overlap as without tui-lab."""
        if self._stage == "parts":
            self._synchronize()

    def _synchronize(self) -> None:
        if self._device == "cuda":
            torch.cuda.synchronize()


def _median(rated: tuple[float, Change]) -> float:
    return rated[0]
