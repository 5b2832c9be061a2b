"""What the screen knows of a run: made of its events alone, so that a replay shows what the training showed."""

import math
from dataclasses import dataclass, field
from typing import Literal

from tui_lab.app.session.series import Series
from tui_lab.app.session.session import Preparing, Ready, Trouble
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.monitors import Watcher
from tui_lab.core.training.task_factory import LOADER_KEYS, build_loader, change_loader
from tui_lab.data.loader import Loader
from tui_lab.util.errors import ConfigError, DataError

Phase = Literal["loading", "running", "paused", "ended", "failed"]
CURVES = ("loss", "val_loss", "grad_norm", "lr", "update_ratio", "tokens_per_s")
_SPEED_MEMORY = 0.95


@dataclass
class LabState:
    """Told every message by `see`; panes read it."""

    phase: Phase = "loading"
    doing: str = "loading torch"
    ready: Ready | None = None
    config: Config | None = None
    """In force now."""
    started: ev.Started | None = None
    step: int = 0
    last: ev.StepDone | None = None
    evaluated: ev.Evaluated | None = None
    best: ev.Evaluated | None = None
    restored: int | None = None
    """The step whose weights, the best, the model has again: only where a run that may stop early is over."""
    seconds_a_step: float | None = None
    ending: str = ""
    curves: dict[str, Series] = field(default_factory=lambda: {name: Series() for name in CURVES})
    changes: list[ev.Changed] = field(default_factory=list)
    loaders: list[Loader] = field(default_factory=list)
    noticed: list[tuple[Finding, int]] = field(default_factory=list)
    """What the watchers found, and at which step."""
    watcher: Watcher = field(default_factory=Watcher)

    def see(self, message: object) -> None:
        match message:
            case Preparing(what, done, total):
                self.doing = f"{what} {done / max(1, total):.0%}"
            case Ready():
                self.ready, self.config = message, message.config
                self.loaders = [build_loader(message.config, message.task)]
                for event in message.past:
                    self.see(event)
                self.phase, self.doing = "loading", "starting"
            case Trouble():
                self.phase, self.ending = "failed", message.message
            case ev.Event():
                self.step = message.step
                self._see_event(message)
                self.noticed += [(finding, message.step) for finding in self.watcher.see(message)]

    def _see_event(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self.started, self.phase, self.restored = event, "running", None
            case ev.StepDone():
                self._see_update(event)
            case ev.Evaluated():
                self._see_evaluation(event)
            case ev.Changed():
                self._see_change(event)
            case ev.Paused():
                self.phase = "paused"
            case ev.Resumed():
                self.phase = "running"
            case ev.Stopped():
                self.phase, self.ending, self.restored = "ended", event.reason, event.restored
            case ev.Failed():
                self.phase, self.ending = "failed", event.message

    def _see_update(self, event: ev.StepDone) -> None:
        self.last = event
        was = self.seconds_a_step
        self.seconds_a_step = (
            event.seconds if was is None else _SPEED_MEMORY * was + (1 - _SPEED_MEMORY) * event.seconds
        )
        for name in CURVES:
            if name != "val_loss":
                self.curves[name].add(event.step, getattr(event, name))

    def _see_evaluation(self, event: ev.Evaluated) -> None:
        self.evaluated = event
        self.curves["val_loss"].add(event.step, event.val_loss)
        if event.best:
            self.best = event

    def _see_change(self, event: ev.Changed) -> None:
        self.changes.append(event)
        if self.config is None:
            return
        try:
            config = settings.changed(self.config, event.key, event.new)
            if event.key in LOADER_KEYS:
                self.loaders.append(change_loader(self.loaders[-1], event.step, config))
        except (ConfigError, DataError):
            return  # A record that was tampered with, or written by another version, can still be looked at.
        self.config = config

    def loader_at(self, step: int) -> Loader | None:
        """The loader whose settings were in force at update `step`; for a future one, those of now."""
        found = [loader for loader in self.loaders if loader.from_step <= step]
        return found[-1] if found else None

    @property
    def worse(self) -> int:
        """Evaluations since the best one."""
        return self.evaluated.since_best if self.evaluated is not None else 0

    @property
    def over(self) -> bool:
        """Whether no further update can come."""
        return self.phase in ("ended", "failed")

    @property
    def seconds_left(self) -> float | None:
        if self.config is None or self.seconds_a_step is None:
            return None
        return max(0, self.config.train.steps - self.step) * self.seconds_a_step

    @property
    def chance_loss(self) -> float | None:
        """ln V: the loss of one who knows nothing and says so."""
        return math.log(self.started.n_vocab) if self.started else None
