"""How long a step takes, for the speed of a run and the time that is left. Does not import torch."""

from dataclasses import dataclass

from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig

SMOOTHING = 0.95
"""Weight of the earlier steps in the moving average."""
STEPS_THAT_COMPILE = 2
"""With train.compile: the first step may be measured by hooks, which compiled code would not call; then the second one
compiles."""


@dataclass
class StepTime:
    """A moving average of the time of a step. Call `add` for every event.

    config: of the run, if it is known. seconds: None until it is known; without the steps that compile, each of which
    can take as long as hundreds of others.
    """

    config: RunConfig | None = None
    seconds: float | None = None
    _n_to_compile: int = 0

    @property
    def is_compiling(self) -> bool:
        """Whether the next step is one that may compile the model."""
        return self._n_to_compile > 0

    def add(self, event: ev.Event) -> None:
        match event:
            case ev.Started():
                compiles = isinstance(self.config, Config) and self.config.train.compile
                self._n_to_compile = STEPS_THAT_COMPILE if compiles else 0
            case ev.StepDone() if self._n_to_compile:
                self._n_to_compile -= 1
            case ev.StepDone(seconds=seconds) if seconds > 0:
                earlier = seconds if self.seconds is None else self.seconds
                self.seconds = SMOOTHING * earlier + (1 - SMOOTHING) * seconds

    def tokens_per_s(self, event: ev.StepDone) -> float | None:
        """Tokens or samples per second of a run that has made this step; None if it is not known."""
        return event.tokens_per_s * event.seconds / self.seconds if self.seconds and event.seconds > 0 else None
