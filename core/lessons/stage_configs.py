"""The configs of a lesson's stages, and whether its questions and facts ask for something that their runs have."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.lessons.lesson_file import LESSON
from tui_lab.core.lessons.schema import Fact, Measure, RunStart, Stage, Trial
from tui_lab.util.errors import ConfigError, Problem, nearest


@dataclass(frozen=True)
class StageConfigs:
    """The configs of a stage. start: of the run that Enter starts, None where it starts none.

    trials: of each trial. current: of the lesson's current run once the stage is done, None where there is none yet or
    where it is the run of a script.
    """

    start: Config | None = None
    trials: tuple[Config, ...] = ()
    current: Config | None = None


@dataclass
class ConfigReader:
    """Builds the configs of a lesson's stages, one after another, and collects the problems."""

    folder: Path
    current: Config | None = None
    has_run: bool = False
    labels: list[str] = field(default_factory=list)
    """Of the latest trials."""
    trials: dict[str, Config] = field(default_factory=dict)
    """By label; without those whose config cannot be built."""
    problems: list[Problem] = field(default_factory=list)

    def read(self, stage: Stage) -> StageConfigs:
        """Return the configs of the next stage."""
        start = self._start(stage)
        if stage.trials:
            self.labels = [trial.label for trial in stage.trials]
            self.trials = self._trials(stage)
        if stage.diagnose is not None and not self.has_run:
            self._no_run(f"stage.{stage.id}.diagnose")
        self._check_terminal(stage)
        self._check_until(stage)
        self._check_measures(stage)
        return StageConfigs(start, tuple(self.trials.values()) if stage.trials else (), self.current)

    def _start(self, stage: Stage) -> Config | None:
        """Return the config of the run that the stage starts, which becomes the current one."""
        config: Config | None = None
        if stage.run is not None:
            config = self._build(f"stage.{stage.id}.run", stage.run)
        elif stage.fix is not None:
            key = f"stage.{stage.id}.fix"
            if not self.has_run:
                self._no_run(key)
            elif self.current is not None:
                config = self._with(key, self.current, stage.fix.set)
        if stage.run is not None or stage.fix is not None:
            self.has_run = True
            self.current = config or self.current
        elif stage.terminal is not None and stage.terminal.waits_for == "run":
            self.has_run = True
            self.current = None
        return config

    def _trials(self, stage: Stage) -> dict[str, Config]:
        """Return the configs of the trials by label."""
        configs = dict[str, Config]()
        for i, trial in enumerate(stage.trials, 1):
            key = f"stage.{stage.id}.trial.{i}"
            if trial.label in configs:
                message = "another trial of the stage has this label"
                self.problems.append(Problem(code="exists", message=message, key=f"{key}.label", value=trial.label))
            config: Config | None = None
            if trial.config:
                config = self._build(key, trial)
            elif not self.has_run:
                self._no_run(key)
            elif self.current is not None:
                config = self._with(key, self.current, trial.set)
            if config is not None:
                configs[trial.label] = config
        return configs

    def _build(self, key: str, start: RunStart | Trial) -> Config | None:
        """Return the config that `start` names, with its settings."""
        file = self.folder / start.config
        names = [*settings.presets(), *(path.name for path in self.folder.glob("*.toml") if path.name != LESSON)]
        if start.config not in names and not settings.is_file(file):
            problem = Problem(
                code="unknown_name",
                message="neither a file of the lesson's folder nor a preset",
                key=f"{key}.config",
                value=start.config,
                allowed=", ".join(names),
                suggestion=nearest(start.config, names),
            )
            self.problems.append(problem)
            return None
        try:
            config = settings.load(str(file) if settings.is_file(file) else start.config)
        except ConfigError as error:
            self.problems += [
                replace(problem, key=f"{key}.config = {start.config!r}: {problem.key}") for problem in error.problems
            ]
            return None
        return self._with(key, config, start.set)

    def _with(self, key: str, config: Config, values: Mapping[str, Any]) -> Config | None:
        """`config` with other settings, and with the files that it names looked up in the lesson's folder."""
        try:
            config = settings.with_values(config, values)
        except ConfigError as error:
            self.problems += [replace(problem, key=f"{key}.set: {problem.key}") for problem in error.problems]
            return None
        path = config.data.path
        if path != "bundled" and (self.folder / path).exists():
            config = settings.changed(config, "data.path", str(self.folder / path))
        source = config.model.source
        if source and settings.is_file(self.folder / source.rpartition(":")[0]):
            config = settings.changed(config, "model.source", str(self.folder / source))
        return config

    def _check_terminal(self, stage: Stage) -> None:
        for i, name in enumerate(stage.terminal.copies if stage.terminal else (), 1):
            if Path(name).name != name or not settings.is_file(self.folder / name):
                problem = Problem(
                    code="not_found",
                    message="not a file of the lesson's folder",
                    key=f"stage.{stage.id}.terminal.copy.{i}",
                    value=name,
                    suggestion=nearest(name, [path.name for path in self.folder.iterdir()]),
                )
                self.problems.append(problem)

    def _check_until(self, stage: Stage) -> None:
        until = stage.until
        if until is None:
            return
        key = f"stage.{stage.id}.until"
        if not self.has_run:
            self._no_run(key)
        if until.step is not None:
            self._check_step(f"{key}.step", until.step, self.current)
        if until.exact_match_above is not None:
            self._check_metric(f"{key}.exact_match_above", "exact_match", self.current)

    def _check_measures(self, stage: Stage) -> None:
        """Whether the runs have what the stage's facts and question ask for."""
        for i, fact in enumerate(stage.facts, 1):
            key = f"stage.{stage.id}.fact.{i}"
            for config in self._configs_of(key, fact):
                self._check_metric(f"{key}.metric", fact.metric, config)
                self._check_step(f"{key}.step", fact.step, config)
        if stage.question is not None and stage.question.measured is not None:
            self._check_measure(f"stage.{stage.id}.question.measured", stage.question.measured)
        if stage.question is not None and stage.question.draw is not None:
            self._check_measure(f"stage.{stage.id}.question.draw", stage.question.draw)

    def _configs_of(self, key: str, fact: Fact) -> Iterable[Config | None]:
        """Return the configs of the runs that a fact is about."""
        if fact.trial or fact.runs == "trials":
            if not self.labels:
                name = "trial" if fact.trial else "runs"
                problem = Problem(code="conflict", message="no stage until here has trials", key=f"{key}.{name}")
                self.problems.append(problem)
            elif fact.trial and fact.trial not in self.labels:
                problem = Problem(
                    code="unknown_name",
                    message="not the label of a trial",
                    key=f"{key}.trial",
                    value=fact.trial,
                    allowed=", ".join(self.labels),
                    suggestion=nearest(fact.trial, self.labels),
                )
                self.problems.append(problem)
            return [self.trials[fact.trial]] if fact.trial in self.trials else self.trials.values()
        if not self.has_run:
            self._no_run(key)
        return [self.current]

    def _check_measure(self, key: str, measure: Measure) -> None:
        self._check_metric(f"{key}.metric", measure.metric, self.current)
        self._check_step(f"{key}.step", measure.step, self.current)

    def _check_step(self, key: str, step: int | str, config: Config | None) -> None:
        if config is not None and isinstance(step, int) and step > config.train.steps:
            message = f"the run has only {config.train.steps} steps"
            self.problems.append(Problem(code="conflict", message=message, key=key, value=step))

    def _check_metric(self, key: str, metric: str, config: Config | None) -> None:
        if config is not None and metric == "exact_match" and config.data.task != "reverse":
            message = "only task reverse has an exact match, and the run's task is text"
            self.problems.append(Problem(code="conflict", message=message, key=key, value=metric))

    def _no_run(self, key: str) -> None:
        message = "no run yet: neither this stage nor an earlier one has [stage.run]"
        self.problems.append(Problem(code="conflict", message=message, key=key))
