"""Monitors: cheap checks on the events of a live run. They keep a few numbers, and report each finding once."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tui_lab.core import events as ev
from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.loss_floor import floor

WARM_UP = 50
"""Steps before any finding: the first ones of a healthy run are rough too."""
DIVERGED = 1.5
"""The running loss over the best one so far; it must also exceed it by 0.5 nats."""
PLATEAU_STEPS = 200
PLATEAU_EVERY = 20
"""Steps between comparisons, since a comparison reads all PLATEAU_STEPS."""
FLAT = 0.002
"""Relative range of the running loss over PLATEAU_STEPS that counts as flat."""
AT_LEVEL = 0.01
"""Relative distance to ln V, or to the floor of a double softmax, that counts as being there."""
WORSE_EVALUATIONS = 3
"""Evaluations in a row without a better validation loss while the train loss falls (Prechelt 1998, criterion UP)."""
HIGH_UPDATE_RATIO = 0.1
"""Update-to-weight ratio: each step changes the weights by a tenth; about 1e-3 is healthy (Karpathy 2022)."""
SLOW_DATA = 0.3
"""Fraction of a step spent building the batch."""
DEAD_SHARE = 0.5
"""Fraction of ReLUs that never fire in a batch, if it has grown by DEAD_GROWTH since the start."""
DEAD_GROWTH = 0.25
IN_A_ROW = 3
"""Measurements in a row that must agree."""


@dataclass
class Monitors:
    """`update` takes every event of a run and returns new findings, each code once until a setting changes."""

    n_vocab: int = 0
    reported: set[FindingCode] = field(default_factory=set)
    best_loss: float = math.inf
    best_val_loss: float = math.inf
    train_loss_at_best: float = math.inf
    recent_losses: deque[float] = field(default_factory=lambda: deque(maxlen=PLATEAU_STEPS))
    high_ratios: int = 0
    slow_batches: int = 0
    initial_dead_share: float | None = None
    steps_since_change: int = 0

    def update(self, event: ev.Event) -> list[Finding]:
        """Return the findings that `event` gives rise to."""
        findings = [finding for finding in self._check(event) if finding.code not in self.reported]
        self.reported |= {finding.code for finding in findings}
        return findings

    def _check(self, event: ev.Event) -> Iterator[Finding]:
        match event:
            case ev.Started():
                self.n_vocab = event.n_vocab
            case ev.Changed():
                # A change may be a response to a finding, which is reported again if it persists.
                self.reported.clear()
                self.recent_losses.clear()
                self.best_loss = math.inf
                self.steps_since_change = 0
            case ev.StepDone():
                self.steps_since_change += 1
                self.recent_losses.append(event.loss_ema)
                if self.steps_since_change > WARM_UP:
                    yield from self._divergence(event)
                    if len(self.recent_losses) == PLATEAU_STEPS and event.step % PLATEAU_EVERY == 0:
                        yield from self._plateau(event)
                    yield from self._dead_units(event)
                    yield from self._data_time(event)
                    yield from self._update_ratio(event)
                self.best_loss = min(self.best_loss, event.loss_ema)
            case ev.Evaluated():
                yield from self._validation(event)

    def _divergence(self, event: ev.StepDone) -> Iterator[Finding]:
        if event.loss_ema > DIVERGED * self.best_loss and event.loss_ema > self.best_loss + 0.5:
            yield Finding(
                code="diverging",
                title="The loss is diverging.",
                evidence=f"running loss {event.loss_ema:.3f} at step {event.step:,}; the best was {self.best_loss:.3f}",
                why="Steps overshoot, and each makes the next one larger.",
                fix="Halve the learning rate, or set optim.grad_clip to 1.",
                kind="hint",
            )

    def _plateau(self, event: ev.StepDone) -> Iterator[Finding]:
        low, high = min(self.recent_losses), max(self.recent_losses)
        if self.n_vocab < 2 or high - low > FLAT * high:
            return
        uniform = math.log(self.n_vocab)
        lowest = floor(self.n_vocab)
        if abs(high - lowest) < AT_LEVEL * lowest and lowest < 0.98 * uniform:
            yield Finding(
                code="double_softmax",
                title="The loss is stuck at the lowest value that a double softmax allows.",
                evidence=f"{event.loss_ema:.4f} for {PLATEAU_STEPS} steps; ln(1 + (V − 1) / e) = {lowest:.4f}",
                why="Probabilities passed as logits can never become confident.",
                fix="Pass the logits to cross_entropy.",
                kind="hint",
                reference_loss=lowest,
            )
        elif abs(high - uniform) < AT_LEVEL * uniform:
            yield Finding(
                code="nothing_learned",
                title="The loss is stuck at ln V: the model has learned nothing.",
                evidence=f"{event.loss_ema:.4f} for {PLATEAU_STEPS} steps; ln V = {uniform:.4f}",
                why="A uniform guess is as good as the model.",
                fix="Diagnose it (k in the app), and try to overfit one example (o).",
                kind="hint",
            )

    def _dead_units(self, event: ev.StepDone) -> Iterator[Finding]:
        if event.dead_units is None:
            return
        if self.initial_dead_share is None:
            self.initial_dead_share = event.dead_units
        if event.dead_units > DEAD_SHARE and event.dead_units > self.initial_dead_share + DEAD_GROWTH:
            yield Finding(
                code="dying_relus",
                title="Units of the feed-forward layers are dying.",
                evidence=f"{event.dead_units:.0%} never fire at step {event.step:,}; "
                f"{self.initial_dead_share:.0%} at the start",
                why="A ReLU that is zero for every token has no gradient and never recovers.",
                fix="Halve the learning rate and restart; dead units stay dead.",
                kind="hint",
            )

    def _data_time(self, event: ev.StepDone) -> Iterator[Finding]:
        if event.data_seconds is None:
            return
        self.slow_batches = self.slow_batches + 1 if event.data_seconds > SLOW_DATA * event.seconds else 0
        if self.slow_batches >= IN_A_ROW:
            yield Finding(
                code="data_starvation",
                title="Training is waiting for data.",
                evidence=f"{event.data_seconds / event.seconds:.0%} of a step is spent building the batch",
                why="The model computes nothing during that time.",
                fix="Keep the text on a local disk, or train a larger model.",
                kind="hint",
            )

    def _update_ratio(self, event: ev.StepDone) -> Iterator[Finding]:
        if event.update_ratio is None:
            return
        self.high_ratios = self.high_ratios + 1 if event.update_ratio > HIGH_UPDATE_RATIO else 0
        if self.high_ratios >= IN_A_ROW:
            yield Finding(
                code="lr_too_high",
                title="The steps are too large for the weights.",
                evidence=f"update-to-weight ratio {event.update_ratio:.2g} at step {event.step:,}; 1e-3 is typical",
                why="Each step overwrites what the one before it learned.",
                fix="Divide the learning rate by ten.",
                kind="hint",
                proposal={"optim.lr": event.lr / 10},
            )

    def _validation(self, event: ev.Evaluated) -> Iterator[Finding]:
        train_loss = self.recent_losses[-1] if self.recent_losses else math.inf
        if event.best:
            self.best_val_loss = event.val_loss
            self.train_loss_at_best = train_loss
        elif event.since_best >= WORSE_EVALUATIONS and train_loss < 0.98 * self.train_loss_at_best:
            yield Finding(
                code="overfitting",
                title="Validation loss rises while train loss falls.",
                evidence=f"validation loss {event.val_loss:.3f}; the best was {self.best_val_loss:.3f}, "
                f"{event.since_best} evaluations ago; train loss {train_loss:.3f}",
                why="From here on the model memorizes its training examples.",
                fix="Stop early (train.patience in a config), raise model.dropout, or use more data.",
                kind="hint",
                proposal={"train.patience": WORSE_EVALUATIONS},
            )
