"""Monitors: cheap checks on the events of a live run, and the watchers of plug-ins. Each finding is reported once."""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tui_lab.core import events as ev
from tui_lab.core.config import script
from tui_lab.core.config.script import RunConfig
from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.loss_floor import floor
from tui_lab.core.doctor.plugin_watchers import PluginWatchers
from tui_lab.core.doctor.rising_loss import has_risen

WARM_UP = 50
"""Steps before any finding: the first ones of a healthy run are rough. In them the running loss forgets other data."""
DATA_KEYS = ("train.batch_size", "train.seed")
"""Settings that change the examples of a step, besides those of `data`."""
DIVERGED = 1.5
"""The running loss over the best one so far; it must also exceed it by 0.5 nats."""
RECOVERED = 0.5
"""A loss no longer diverges once its excess over the best one is this fraction of what counts as diverging."""
LEFT_LEVEL = 0.03
"""Relative distance to the level of a plateau at which the loss has left it."""
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
MAX_EVALUATIONS = 1000
"""Of the latest ones, whose losses are kept."""
SLOW_DATA = 0.3
"""Fraction of a step spent building the batch."""
DEAD_SHARE = 0.5
"""Fraction of ReLUs that never fire in a batch, if it has grown by DEAD_GROWTH since the start."""
DEAD_GROWTH = 0.25
IN_A_ROW = 3
"""Measurements in a row that must agree."""


@dataclass
class _Streak:
    """Counts the latest measurements in a row that are on the same side of a threshold."""

    _is_high: bool = False
    _n: int = 0

    def add(self, *, is_high: bool) -> None:
        self._n = self._n + 1 if is_high == self._is_high else 1
        self._is_high = is_high

    @property
    def is_high(self) -> bool:
        """Whether the last IN_A_ROW were above."""
        return self._is_high and self._n >= IN_A_ROW

    @property
    def is_low(self) -> bool:
        """Whether the last IN_A_ROW were not above."""
        return not self._is_high and self._n >= IN_A_ROW


@dataclass
class Monitors:
    """`update` takes every event of a run and returns new findings, each code once until a setting changes.

    config: the settings at the start of the run, so that no fix is proposed that is in force; None if not known.
    active: the codes of the findings that still hold. refuted: of those that the latest event showed to be wrong.
    """

    config: RunConfig | None = None
    active: set[FindingCode] = field(default_factory=set, init=False)
    refuted: set[FindingCode] = field(default_factory=set, init=False)
    _reported: set[FindingCode] = field(default_factory=set, init=False)
    _changed: dict[str, Any] = field(default_factory=dict, init=False)
    _changed_at: int = field(default=0, init=False)
    _data_changed_at: int | None = field(default=None, init=False)
    """The step of the latest change of the data: until the end of the warm-up the running loss is that of both."""
    _n_examples: tuple[int, int] | None = field(default=None, init=False)
    _n_vocab: int = field(default=0, init=False)
    _best_loss: float = field(default=math.inf, init=False)
    _best_before: float = field(default=math.inf, init=False)
    """The best loss with which an active "diverging" was found."""
    _best_val_loss: float = field(default=math.inf, init=False)
    _val_losses: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_EVALUATIONS), init=False)
    _worse_evaluations: int = field(default=0, init=False)
    _overfitting_at: int = field(default=0, init=False)
    """The step at which an active "overfitting" was found."""
    _train_loss_at_best: float = field(default=math.inf, init=False)
    _recent_losses: deque[float] = field(default_factory=lambda: deque(maxlen=PLATEAU_STEPS), init=False)
    _level: float = field(default=math.inf, init=False)
    """The loss of an active plateau."""
    _update_ratios: _Streak = field(default_factory=_Streak, init=False)
    _data_times: _Streak = field(default_factory=_Streak, init=False)
    _initial_dead_share: float | None = field(default=None, init=False)
    _plugins: PluginWatchers = field(default_factory=PluginWatchers, init=False)

    def update(self, event: ev.Event) -> list[Finding]:
        """Return the findings that `event` gives rise to."""
        self.refuted = set()
        findings = [finding for finding in self._check(event) if finding.code not in self._reported]
        self._reported |= {finding.code for finding in findings}
        self.active |= {finding.code for finding in findings}
        return findings

    def _check(self, event: ev.Event) -> Iterator[Finding]:
        match event:
            case ev.Started():
                self._start(event)
            case ev.Changed():
                self._change(event)
            case ev.StepDone():
                yield from self._step(event)
            case ev.Evaluated():
                yield from self._validation(event)
        yield from self._plugins.update(event)

    def _start(self, event: ev.Started) -> None:
        """A fork may train on other data than the run it comes from."""
        n_examples = (event.train_examples, event.val_examples)
        if self._n_examples not in (None, n_examples) or self._n_vocab not in (0, event.n_vocab):
            self._forget_losses(event.step)
        self._n_vocab = event.n_vocab
        self._n_examples = n_examples

    def _change(self, event: ev.Changed) -> None:
        # A change may be a response to a finding, which is reported again if it persists.
        self._reported.clear()
        self._changed[event.key] = event.new
        self._changed_at = event.step
        self._recent_losses.clear()
        self._best_loss = math.inf
        if event.key.startswith("data.") or event.key in DATA_KEYS:
            self._forget_losses(event.step)

    def _forget_losses(self, step: int) -> None:
        """Begin again with the losses, which cannot be compared with those of other data."""
        self._data_changed_at = step
        self._recent_losses.clear()
        self._best_loss = math.inf
        self._best_val_loss = math.inf
        self._val_losses.clear()
        self._worse_evaluations = 0
        self.active -= {"diverging", "double_softmax", "nothing_learned", "overfitting"}

    def _step(self, event: ev.StepDone) -> Iterator[Finding]:
        self._recent_losses.append(event.loss_ema)
        self._recovered(event)
        if event.step - self._changed_at > WARM_UP:
            yield from self._divergence(event)
            if len(self._recent_losses) == PLATEAU_STEPS and event.step % PLATEAU_EVERY == 0:
                yield from self._plateau(event)
            yield from self._dead_units(event)
            yield from self._data_time(event)
            yield from self._update_ratio(event)
        if self._data_changed_at is None or event.step - self._data_changed_at > WARM_UP:
            self._best_loss = min(self._best_loss, event.loss_ema)

    def _recovered(self, event: ev.StepDone) -> None:
        """Drop the active findings that the loss contradicts by now."""
        excess = RECOVERED * max(0.5, (DIVERGED - 1) * self._best_before)
        if "diverging" in self.active and event.loss_ema < self._best_before + excess:
            self.active.discard("diverging")
        if abs(event.loss_ema - self._level) > LEFT_LEVEL * self._level:
            self.active -= {"double_softmax", "nothing_learned"}

    def _value(self, key: str) -> Any:
        """Return the value of a setting in force; None if it is not known or the run has no such setting."""
        if key in self._changed or self.config is None:
            return self._changed.get(key)
        return script.values_of(self.config).get(key)

    def _divergence(self, event: ev.StepDone) -> Iterator[Finding]:
        is_high = event.loss_ema > DIVERGED * self._best_loss and event.loss_ema > self._best_loss + 0.5
        if not is_high or "diverging" in self._reported:
            return
        self._best_before = self._best_loss
        lr, clip = self._value("optim.lr"), self._value("optim.grad_clip")
        is_clipped = clip is not None and 0 < clip <= 1
        # Of a script, the rate is its own: at most a factor can be changed.
        is_live = lr is not None and self.config is not None and "optim.lr" in script.live_keys(self.config)
        first_lr = script.values_of(self.config)["optim.lr"] if is_live and self.config is not None else None
        is_raised = first_lr is not None and lr > first_lr
        lower = f"Set optim.lr back to {first_lr:g}" if is_raised else "Halve the learning rate"
        yield Finding(
            code="diverging",
            title="The loss is diverging.",
            evidence=f"running loss {event.loss_ema:.3f} at step {event.step:,}; the best was {self._best_loss:.3f}",
            why="Steps overshoot, and each makes the next one larger.",
            fix=f"{lower}{'' if is_clipped else ', or set optim.grad_clip to 1'}.",
            kind="hint",
            proposal={"optim.lr": first_lr if is_raised else lr / 2} if is_live else {},
        )

    def _plateau(self, event: ev.StepDone) -> Iterator[Finding]:
        low, high = min(self._recent_losses), max(self._recent_losses)
        if self._n_vocab < 2 or high - low > FLAT * high:
            return
        uniform = math.log(self._n_vocab)
        lowest = floor(self._n_vocab)
        self._level = high
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
            overfits = self._value("data.overfit")
            yield Finding(
                code="nothing_learned",
                title="The loss is stuck at ln V: the model has learned nothing.",
                evidence=f"{event.loss_ema:.4f} for {PLATEAU_STEPS} steps; ln V = {uniform:.4f}",
                why="A uniform guess is as good as the model.",
                fix=f"Diagnose it (K in the app){'' if overfits else ', and try to overfit one example (o)'}.",
                kind="hint",
            )

    def _dead_units(self, event: ev.StepDone) -> Iterator[Finding]:
        if event.dead_units is None:
            return
        if self._initial_dead_share is None:
            self._initial_dead_share = event.dead_units
        if event.dead_units <= DEAD_SHARE or event.dead_units <= self._initial_dead_share + DEAD_GROWTH:
            self.active.discard("dying_relus")
        else:
            yield Finding(
                code="dying_relus",
                title="Units of the feed-forward layers are dying.",
                evidence=f"{event.dead_units:.0%} never fire at step {event.step:,}; "
                f"{self._initial_dead_share:.0%} at the start",
                why="A ReLU that is zero for every token has no gradient and never recovers.",
                fix="Halve the learning rate and restart; dead units stay dead.",
                kind="hint",
            )

    def _data_time(self, event: ev.StepDone) -> Iterator[Finding]:
        if event.data_seconds is None:
            return
        self._data_times.add(is_high=event.data_seconds > SLOW_DATA * event.seconds)
        if self._data_times.is_low:
            self.active.discard("data_starvation")
        if self._data_times.is_high:
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
        self._update_ratios.add(is_high=event.update_ratio > HIGH_UPDATE_RATIO)
        if self._update_ratios.is_low:
            self.active.discard("lr_too_high")
        if self._update_ratios.is_high:
            yield Finding(
                code="lr_too_high",
                title="The steps are too large for the weights.",
                evidence=f"update-to-weight ratio {event.update_ratio:.2g} at step {event.step:,}; 1e-3 is typical",
                why="Each step overwrites what the one before it learned.",
                fix="Divide the learning rate by ten.",
                kind="hint",
                proposal={"optim.lr": (self._value("optim.lr") or event.lr) / 10},
            )

    def _validation(self, event: ev.Evaluated) -> Iterator[Finding]:
        train_loss = self._recent_losses[-1] if self._recent_losses else math.inf
        self._val_losses.append(event.val_loss)
        if event.val_loss < self._best_val_loss:
            self._best_val_loss = event.val_loss
            self._worse_evaluations = 0
            self._train_loss_at_best = train_loss
            self._validation_recovered()
            return
        # The same weights may be evaluated again.
        self._worse_evaluations = min(self._worse_evaluations + 1, event.since_best)
        is_worse = self._worse_evaluations >= WORSE_EVALUATIONS and train_loss < 0.98 * self._train_loss_at_best
        if is_worse and has_risen(list(self._val_losses)) and not self._value("data.overfit"):
            self._overfitting_at = event.step
            is_stopping = bool(self._value("train.patience"))
            stop = "" if is_stopping else "Stop early (train.patience in a config), r"
            yield Finding(
                code="overfitting",
                title="Validation loss rises while train loss falls.",
                evidence=f"validation loss {event.val_loss:.3f}; the best was {self._best_val_loss:.3f}, "
                f"{self._worse_evaluations} evaluations ago; train loss {train_loss:.3f}",
                why="From here on the model memorizes its training examples.",
                fix=f"{stop or 'R'}aise model.dropout, or use more data.",
                kind="hint",
                proposal={} if is_stopping else {"train.patience": WORSE_EVALUATIONS},
            )

    def _validation_recovered(self) -> None:
        """The best validation loss so far: if nothing was changed since, the model did not overfit."""
        if "overfitting" in self.active and self._overfitting_at > self._changed_at:
            self.refuted.add("overfitting")
            self._reported.discard("overfitting")
        self.active.discard("overfitting")
