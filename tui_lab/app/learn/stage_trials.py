"""The trials of a stage, which end with it."""

from collections.abc import Callable, Sequence

from tui_lab.app.learn.guide import Guide
from tui_lab.app.learn.trials import Trial, Trials
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.facts import Measurements


class StageTrials:
    """Starts the trials of the guide's stage; call `poll` at every tick. make: returns what runs them."""

    def __init__(self, guide: Guide, make: Callable[[Sequence[Trial]], Trials]) -> None:
        self._guide = guide
        self._make = make
        self._trials: Trials | None = None
        self._stage = ""
        """The id of the stage that started them."""

    @property
    def live(self) -> Trials | None:
        """The trials that the present stage has started here; None if it has none, or only recorded ones."""
        return self._trials if self._stage == self._guide.stage.id else None

    @property
    def measured(self) -> Sequence[Measurements]:
        return () if self.live is None else self.live.measured

    def start(self, configs: Sequence[Config]) -> None:
        """Start the trials of the present stage with these configs. Raises RunError."""
        self.stop()
        stage = self._guide.stage
        trials = [
            Trial(trial.label, config, self._guide.progress.new_run_folder(stage.id, number))
            for number, (trial, config) in enumerate(zip(stage.trials, configs, strict=True), 1)
        ]
        self._trials = self._make(trials)
        self._stage = stage.id
        self._guide.trials_started([trial.folder.name for trial in trials])

    def poll(self) -> bool:
        """Let them go on; return whether they have new points. The stage is complete once all have ended."""
        live = self.live
        if live is None or not live.poll():
            return False
        if live.done and self._guide.need == "wait":
            self._guide.trials = live.measured
            self._guide.trials_ended()
        return True

    def stop(self) -> None:
        """Stop those that train; a stage whose trials were stopped starts them again."""
        if self._trials is None:
            return
        self._trials.stop()
        if not self._trials.done:
            self._guide.progress.of(self._stage).trials = []
            self._guide.save()
        self._trials = None
        self._stage = ""
