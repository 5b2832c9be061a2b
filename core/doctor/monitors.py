"""Cheap watchers of a training: they see its events alone, keep a few numbers, and speak once."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from tui_lab.core import events as ev
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.loss_floor import floor

WARM_UP = 50
"""Updates before anything is said: the first ones of a healthy run are rough too."""
DIVERGED = 1.5
"""The running loss over the best one so far, in excess of 0.5 nats."""
PLATEAU_STEPS, PLATEAU_EVERY = 200, 20
"""Updates that are compared, and how often: the comparison reads all of them."""
FLAT = 0.002
"""Relative range of the running loss over PLATEAU_STEPS that counts as flat."""
NEAR = 0.01
"""Relative distance to ln V or to the floor of a double softmax that counts as there."""
U_SHAPE = 3
"""Evaluations in a row without a better validation loss while the training loss falls (Prechelt 1998, criterion UP)."""
RATIO_HIGH = 0.1
"""Update-to-weight ratio: a tenth of every weight an update; about 1e-3 is healthy (Karpathy 2022)."""
STARVED = 0.3
"""Share of an update that goes into making its batch."""
DYING = 0.5
"""Share of ReLUs that fire for no token of a batch, when it has grown by DIED since the start."""
DIED = 0.25
IN_A_ROW = 3
"""Measurements that must agree before it is said."""


@dataclass
class Watcher:
    """Tell it every event by `see`; what it finds comes once for each code, until the settings change."""

    n_vocab: int = 0
    said: set[str] = field(default_factory=set)
    best: float = math.inf
    best_val: float = math.inf
    ema_at_best: float = math.inf
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=PLATEAU_STEPS))
    high: int = 0
    starved: int = 0
    dead_at_first: float | None = None
    since: int = 0

    def see(self, event: ev.Event) -> list[Finding]:
        found = [finding for finding in self._look(event) if finding.code not in self.said]
        self.said |= {finding.code for finding in found}
        return found

    def _look(self, event: ev.Event) -> Iterator[Finding]:
        match event:
            case ev.Started():
                self.n_vocab = event.n_vocab
            case ev.Changed():
                # A change is an answer to what was said: it may be said again.
                self.said.clear()
                self.recent.clear()
                self.best, self.since = math.inf, 0
            case ev.StepDone():
                self.since += 1
                self.recent.append(event.loss_ema)
                if self.since > WARM_UP:
                    yield from self._losses(event)
                    yield from self._measurements(event)
                self.best = min(self.best, event.loss_ema)
            case ev.Evaluated():
                yield from self._validation(event)

    def _losses(self, event: ev.StepDone) -> Iterator[Finding]:
        if event.loss_ema > DIVERGED * self.best and event.loss_ema > self.best + 0.5:
            yield Finding(
                "diverging", "The loss climbs.",
                f"running loss {event.loss_ema:.3f} at step {event.step:,}; it was {self.best:.3f}",
                "Updates overshoot: each makes the next one larger.",
                "Halve optim.lr, or set optim.grad_clip to 1.", "warning",
            )  # fmt: skip
        if len(self.recent) == PLATEAU_STEPS and self.n_vocab > 1 and event.step % PLATEAU_EVERY == 0:
            yield from self._plateau(event)

    def _measurements(self, event: ev.StepDone) -> Iterator[Finding]:
        """What is measured every few steps."""
        if event.dead_units is not None:
            first = self.dead_at_first = event.dead_units if self.dead_at_first is None else self.dead_at_first
            if event.dead_units > DYING and event.dead_units > first + DIED:
                yield Finding(
                    "dying_relus", "Units of the feed-forward layers die.",
                    f"{event.dead_units:.0%} fire for no token at step {event.step:,}; {first:.0%} at first",
                    "A ReLU that is zero for every token has no gradient and never comes back.",
                    "Halve optim.lr and begin anew; what is dead stays dead.", "warning",
                )  # fmt: skip
        if event.data_seconds is not None:
            self.starved = self.starved + 1 if event.data_seconds > STARVED * event.seconds else 0
            if self.starved >= IN_A_ROW:
                yield Finding(
                    "data_starvation", "The training waits for its data.",
                    f"{event.data_seconds / event.seconds:.0%} of an update goes into making the batch",
                    "The arithmetic stands still meanwhile.",
                    "Keep the text on a local disk; a larger model waits less.", "warning",
                )  # fmt: skip
        if event.update_ratio is not None:
            self.high = self.high + 1 if event.update_ratio > RATIO_HIGH else 0
            if self.high >= IN_A_ROW:
                yield Finding(
                    "lr_too_high", "Updates are too large for the weights.",
                    f"update-to-weight ratio {event.update_ratio:.2g} at step {event.step:,}; about 1e-3 is healthy",
                    "What one update learns the next one overwrites.", "Divide optim.lr by ten.", "warning",
                    proposal={"optim.lr": event.lr / 10},
                )  # fmt: skip

    def _plateau(self, event: ev.StepDone) -> Iterator[Finding]:
        low, high = min(self.recent), max(self.recent)
        if high - low > FLAT * high:
            return
        chance, least = math.log(self.n_vocab), floor(self.n_vocab)
        if abs(high - least) < NEAR * least and least < 0.98 * chance:
            yield Finding(
                "double_softmax", "The loss rests at the floor of a double softmax.",
                f"{event.loss_ema:.4f} for {PLATEAU_STEPS} updates; ln(1 + (V − 1) / e) = {least:.4f}",
                "Probabilities read as logits cannot become sure.", "Give logits to the cross-entropy.", "warning",
            )  # fmt: skip
        elif abs(high - chance) < NEAR * chance:
            yield Finding(
                "nothing_learned", "The loss rests at ln V: nothing is learned.",
                f"{event.loss_ema:.4f} for {PLATEAU_STEPS} updates; ln V = {chance:.4f}",
                "A uniform guess is as good as the model.",
                "Examine it (k), and try to overfit one datapoint (o).", "warning",
            )  # fmt: skip

    def _validation(self, event: ev.Evaluated) -> Iterator[Finding]:
        training = self.recent[-1] if self.recent else math.inf
        if event.best:
            self.best_val = event.val_loss
            self.ema_at_best = training
            return
        if event.since_best >= U_SHAPE and training < 0.98 * self.ema_at_best:
            yield Finding(
                "overfitting", "Validation worsens while training improves.",
                f"validation {event.val_loss:.3f}, best {self.best_val:.3f}, {event.since_best} evaluations ago; "
                f"training {training:.3f}",
                "From here the model learns its examples by heart.",
                "Set train.patience to stop by itself, raise model.dropout, or use more data.", "warning",
                proposal={"train.patience": U_SHAPE},
            )  # fmt: skip
