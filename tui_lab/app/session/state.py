"""What the app knows of a run: built from its messages alone, so that a replay shows what the live run showed."""

import math
from dataclasses import dataclass, field
from typing import Literal

from tui_lab.app.session.messages import Preparing, Ready, SessionFailed, SessionMessage
from tui_lab.app.session.series import Series
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.monitors import Monitors
from tui_lab.core.training.task_factory import LOADER_KEYS, build_loader, change_loader
from tui_lab.data.loader import Loader
from tui_lab.util.errors import ConfigError, DataError

Phase = Literal["loading", "running", "paused", "ended", "failed"]
CURVES = ("loss", "val_loss", "grad_norm", "lr", "update_ratio", "tokens_per_s")
SPEED_SMOOTHING = 0.95
"""Weight of the earlier steps in the moving average of the time a step takes."""


@dataclass
class LabState:
    """Pass every message to `apply`; panes read the fields."""

    phase: Phase = "loading"
    doing: str = "loading torch"
    """While loading: what is being prepared."""
    ready: Ready | None = None
    config: Config | None = None
    """In force now."""
    started: ev.Started | None = None
    step: int = 0
    last: ev.StepDone | None = None
    evaluated: ev.Evaluated | None = None
    best: ev.Evaluated | None = None
    restored: int | None = None
    """The step of the best weights, if early stopping has restored them."""
    seconds_a_step: float | None = None
    ending: str = ""
    """Why the run ended, or the error it failed with."""
    curves: dict[str, Series] = field(default_factory=lambda: {name: Series() for name in CURVES})
    changes: list[ev.Changed] = field(default_factory=list)
    loaders: list[Loader] = field(default_factory=list)
    noticed: list[tuple[Finding, int]] = field(default_factory=list)
    """What the monitors found, and at which step."""
    monitors: Monitors = field(default_factory=Monitors)

    def apply(self, message: SessionMessage) -> None:
        match message:
            case Preparing(what, done, total):
                self.doing = f"{what} {done / max(1, total):.0%}"
            case Ready():
                self._apply_ready(message)
            case SessionFailed():
                self.phase = "failed"
                self.ending = message.message
            case ev.Event():
                self.step = message.step
                self._apply_event(message)
                self.noticed += [(finding, message.step) for finding in self.monitors.update(message)]

    def _apply_ready(self, message: Ready) -> None:
        self.ready = message
        self.config = message.config
        self.loaders = [build_loader(message.config, message.task)]
        for event in message.past:
            self.apply(event)
        self.phase = "loading"
        self.doing = "starting"

    def _apply_event(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self.started = event
                self.phase = "running"
                self.restored = None
            case ev.StepDone():
                self._apply_step(event)
            case ev.Evaluated():
                self._apply_evaluation(event)
            case ev.Changed():
                self._apply_change(event)
            case ev.Paused():
                self.phase = "paused"
            case ev.Resumed():
                self.phase = "running"
            case ev.Stopped():
                self.phase = "ended"
                self.ending = event.reason
                self.restored = event.restored
            case ev.Failed():
                self.phase = "failed"
                self.ending = event.message

    def _apply_step(self, event: ev.StepDone) -> None:
        self.last = event
        earlier = event.seconds if self.seconds_a_step is None else self.seconds_a_step
        self.seconds_a_step = SPEED_SMOOTHING * earlier + (1 - SPEED_SMOOTHING) * event.seconds
        for name in CURVES:
            if name != "val_loss":
                self.curves[name].add(event.step, getattr(event, name))

    def _apply_evaluation(self, event: ev.Evaluated) -> None:
        self.evaluated = event
        self.curves["val_loss"].add(event.step, event.val_loss)
        if event.best:
            self.best = event

    def _apply_change(self, event: ev.Changed) -> None:
        self.changes.append(event)
        if self.config is None:
            return
        try:
            config = settings.changed(self.config, event.key, event.new)
            if event.key in LOADER_KEYS:
                self.loaders.append(change_loader(self.loaders[-1], event.step, config))
        except (ConfigError, DataError):
            return  # An event log that was edited, or written by another version, can still be viewed.
        self.config = config

    def loader_at(self, step: int) -> Loader | None:
        """Return the loader with the settings in force at `step`; for a future step, with the current ones."""
        loaders = [loader for loader in self.loaders if loader.from_step <= step]
        return loaders[-1] if loaders else None

    @property
    def worse(self) -> int:
        """Evaluations since the best one."""
        return self.evaluated.since_best if self.evaluated is not None else 0

    @property
    def over(self) -> bool:
        """Whether no further step can come."""
        return self.phase in ("ended", "failed")

    @property
    def seconds_left(self) -> float | None:
        if self.config is None or self.seconds_a_step is None:
            return None
        return max(0, self.config.train.steps - self.step) * self.seconds_a_step

    @property
    def chance_loss(self) -> float | None:
        """Loss of a uniform prediction, ln V, in nats per target."""
        return math.log(self.started.n_vocab) if self.started else None
