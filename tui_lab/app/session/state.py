"""What the app knows of a run: built from its messages alone, so that a replay shows what the live run showed."""

import math
from dataclasses import dataclass, field, replace
from typing import Literal

from tui_lab.app.session.curves import RARE_EXTRAS, Curves
from tui_lab.app.session.layer_curves import LayerCurves
from tui_lab.app.session.messages import (
    Interrupted,
    Preparing,
    Ready,
    Recorded,
    Rewound,
    SessionFailed,
    SessionMessage,
    SystemSample,
    Waiting,
)
from tui_lab.app.session.noticed import Noticed, noticed_after
from tui_lab.app.session.progress import Progress
from tui_lab.app.session.requested import Requested
from tui_lab.app.session.requested_pause import RequestedPause
from tui_lab.app.session.spikes import Spikes
from tui_lab.app.session.system_history import SystemHistory
from tui_lab.core import events as ev
from tui_lab.core.config import script, settings
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig, ScriptConfig
from tui_lab.core.doctor.monitors import Monitors
from tui_lab.core.training.step_time import StepTime
from tui_lab.core.training.task_factory import LOADER_KEYS, build_loader, change_loader
from tui_lab.data.loader import Loader
from tui_lab.util.errors import ConfigError, DataError

Phase = Literal["loading", "waiting", "running", "paused", "ended", "failed"]
"""waiting: a script runs, and has not made an optimizer step yet."""
NO_RUN = "no run yet"
"""What a lab without a run does while it is "loading"."""


@dataclass
class LabState:
    """Pass every message to `apply`; panes read the fields."""

    phase: Phase = "loading"
    doing: str = "loading torch"
    """While loading: what is being prepared."""
    ready: Ready | None = None
    waiting: Waiting | None = None
    """While a script has not made an optimizer step: which script."""
    config: RunConfig | None = None
    """In force now."""
    started: ev.Started | None = None
    step: int = 0
    last: ev.StepDone | None = None
    evaluated: ev.Evaluated | None = None
    best: ev.Evaluated | None = None
    saved_step: int = 0
    """The step of the last checkpoint; 0 if there is none."""
    restored: int | None = None
    """The step of the best weights, if early stopping has restored them."""
    step_time: StepTime = field(default_factory=StepTime)
    progress: Progress = field(default_factory=Progress)
    """The time and the tokens at each step."""
    data_share: float | None = None
    """The fraction of a step spent waiting for the batch, as last measured."""
    extra: dict[str, float] = field(default_factory=dict)
    """The latest further measurements of a script, by name."""
    logged: dict[str, float] = field(default_factory=dict)
    """The latest values that a script has logged, by name."""
    ending: str = ""
    """Why the run ended, or the error it failed with."""
    curves: Curves = field(default_factory=Curves)
    layers: LayerCurves = field(default_factory=LayerCurves)
    """Not copied by `frozen`: no pane draws them."""
    changes: list[ev.Changed] = field(default_factory=list)
    loaders: list[Loader] = field(default_factory=list)
    recorded_loaders: list[Loader] = field(default_factory=list)
    """In a replay: those of the whole recording, of which `loaders` are the ones until its position."""
    requested: Requested = field(default_factory=Requested)
    """The live changes that were sent and are not confirmed yet."""
    requested_pause: RequestedPause = field(default_factory=RequestedPause)
    noticed: list[Noticed] = field(default_factory=list)
    """What the monitors found, in order."""
    monitors: Monitors = field(default_factory=Monitors)
    spikes: Spikes = field(default_factory=Spikes)
    system: SystemHistory = field(default_factory=SystemHistory)
    """What the machine did in the last minutes; not a part of the run."""

    def frozen(self) -> "LabState":
        """Return a copy that later messages do not change. Only the panes' data is copied; do not call `apply`."""
        return replace(
            self,
            step_time=replace(self.step_time),
            progress=self.progress.copy(),
            curves=self.curves.copy(),
            changes=list(self.changes),
            loaders=list(self.loaders),
            requested=self.requested.copy(),
            requested_pause=replace(self.requested_pause),
            noticed=list(self.noticed),
            spikes=self.spikes.copy(),
        )

    def apply(self, message: SessionMessage) -> None:
        match message:
            case Preparing(what, done, total):
                # What is one piece has no share that could grow.
                self.doing = f"{what} {done / total:.0%}" if total > 1 else what
            case Ready():
                self._apply_ready(message)
            case Rewound():
                self._apply_rewound(message)
            case Recorded(changes):
                self.recorded_loaders = self._loaders_of(changes)
            case Waiting():
                self.waiting = message
                if self.phase == "loading":
                    self.phase = "waiting"
            case SystemSample():
                self._apply_sample(message)
            case Interrupted() | SessionFailed():
                self._apply_end(message)
            case ev.Event():
                if not isinstance(message, ev.Warned):  # The app's own warnings have no step.
                    self.step = message.step
                self._apply_event(message)
                self.requested.apply(message)
                self.noticed = noticed_after(message, self.noticed, self.monitors)
                self.spikes.update(message)
        self.requested_pause.apply(message)

    def _apply_sample(self, sample: SystemSample) -> None:
        self.system.add(sample)
        # A script measures its own memory.
        if sample.trains and sample.process_bytes is not None and self.phase == "running" and not self.is_script:
            self.curves["memory_mib"].add(self.step, sample.process_bytes / 2**20)

    def _apply_rewound(self, message: Rewound) -> None:
        """Build everything again from the events until that step."""
        spikes = Spikes(self.spikes.recorded)
        vars(self).update(vars(LabState(system=self.system, recorded_loaders=self.recorded_loaders, spikes=spikes)))
        self._apply_ready(message.ready)
        for event in message.past:
            if not isinstance(event, ev.Paused | ev.Resumed):  # Those of the recording.
                self.apply(event)

    def _apply_end(self, message: Interrupted | SessionFailed | ev.Stopped | ev.Failed) -> None:
        if isinstance(message, SessionFailed | ev.Failed):
            self.phase = "failed"
            self.ending = message.message
        elif isinstance(message, ev.Stopped):
            self.phase = "ended"
            is_without_steps = ev.is_without_steps(message.reason, has_steps=self.last is not None)
            self.ending = "no-steps" if is_without_steps else message.reason
            self.restored = message.restored
        elif not self.over:
            self.phase = "ended"
            self.ending = "interrupted"

    def _apply_ready(self, message: Ready) -> None:
        self.ready = message
        self.config = message.config
        self.step_time.config = message.config
        self.monitors.config = message.config
        self.waiting = None
        if message.task is not None and isinstance(message.config, Config):
            self.loaders = [build_loader(message.config, message.task)]
        for event in message.past:
            self.apply(event)
        if not (message.in_progress and self.phase in ("running", "paused")):
            self.phase = "loading"
            self.doing = "starting"

    def _loaders_of(self, changes: tuple[ev.Changed, ...]) -> list[Loader]:
        """Return the loaders of a run that was changed in this way."""
        if self.ready is None:
            return []
        whole_run = LabState()
        whole_run.apply(replace(self.ready, past=changes))
        return whole_run.loaders

    def _apply_event(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                self.started = event
                self.phase = "running"
                self.restored = None
                self.step_time.add(event)
                self.saved_step = event.step
                self._apply_steps(event)
            case ev.StepDone():
                self._apply_step(event)
            case ev.Evaluated():
                self._apply_evaluation(event)
            case ev.Changed():
                self._apply_change(event)
            case ev.Saved():
                self.saved_step = event.step
            case ev.Paused():
                self.phase = "paused"
            case ev.Resumed():
                self.phase = "running" if self.waiting is None else "waiting"
            case ev.Logged():
                self.logged = self.logged | event.values
                self.curves.add_logged(event)
            case ev.Stopped() | ev.Failed():
                self._apply_end(event)

    def _apply_steps(self, event: ev.Started) -> None:
        """Take over the number of steps, which may be another one in a resumed run."""
        if isinstance(self.config, Config) and event.steps not in (0, self.config.train.steps):
            self.config = settings.changed(self.config, "train.steps", event.steps)

    def _apply_step(self, event: ev.StepDone) -> None:
        self.last = event
        self.curves.add_step(event, is_compiling=self.step_time.is_compiling)
        self.step_time.add(event)
        self.progress.add(event)
        self.layers.add(event)
        if event.data_seconds is not None and event.seconds > 0:
            self.data_share = event.data_seconds / event.seconds
        rare = {name: value for name, value in self.extra.items() if name in RARE_EXTRAS}
        self.extra = rare | (event.extra or {})

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
            config = script.changed(self.config, event.key, event.new)
            if event.key in LOADER_KEYS and isinstance(config, Config):
                self.loaders.append(change_loader(self.loaders[-1], event.step, config))
        except (ConfigError, DataError):
            return  # An event log that was edited, or written by another version, can still be viewed.
        self.config = config

    @property
    def is_script(self) -> bool:
        """Whether the run is recorded from a script."""
        return self.waiting is not None or isinstance(self.config, ScriptConfig)

    @property
    def run_config(self) -> RunConfig | None:
        """The config in force; of a script that has not made a step yet, one without what is not known yet."""
        return self.config if self.waiting is None else self.waiting.config

    @property
    def trainer_config(self) -> Config | None:
        """The config in force of a run of our trainer; None for the run of a script."""
        return self.config if isinstance(self.config, Config) else None

    @property
    def unit(self) -> str:
        """What is counted per second: tokens or samples."""
        return self.config.train.unit if isinstance(self.config, ScriptConfig) else "tokens"

    def loader_at(self, step: int) -> Loader | None:
        """Return the loader with the settings in force at `step`.

        For a future step, these are the recorded settings in a replay, and else the current ones.
        """
        loaders = [loader for loader in self.recorded_loaders or self.loaders if loader.from_step <= step]
        return loaders[-1] if loaders else None

    @property
    def epoch(self) -> int | None:
        """The epoch of the latest step, or of the next one if its examples are others; None if it is not known."""
        if not self.loaders:
            return None if self.last is None else self.last.epoch or None  # A script's is 0 if it is not known.
        loader = self.loaders[-1]
        return loader.data_epoch_at(max(self.step - 1, loader.from_step))

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
        """Until the last step; None if the number of steps is not known."""
        if self.config is None or self.step_time.seconds is None or not self.config.train.steps:
            return None
        return max(0, self.config.train.steps - self.step) * self.step_time.seconds

    @property
    def unsaved_seconds(self) -> float:
        """The training time since the last checkpoint."""
        return self.progress.at("time", self.step) - self.progress.at("time", self.saved_step)

    @property
    def mean_tokens_per_s(self) -> float | None:
        """Tokens or samples per second, with the mean time of a step, as in `seconds_left`; None if it is not known."""
        return None if self.last is None else self.step_time.tokens_per_s(self.last)

    @property
    def chance_loss(self) -> float | None:
        """Loss of a uniform prediction, ln V, in nats per target; None if there is no vocabulary."""
        return math.log(self.started.n_vocab) if self.started and self.started.n_vocab > 1 else None
