"""Train all runs of a lesson without an app, and check what its text claims: for teachers, and for tests."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.diagnose import examine_config
from tui_lab.core.kernels.autotune import with_kernels
from tui_lab.core.lessons.facts import CheckedFact, Measurements, Measuring, check_fact, is_reached, right_number
from tui_lab.core.lessons.load import Lesson
from tui_lab.core.lessons.schema import Stage
from tui_lab.core.training.setup import set_up
from tui_lab.core.training.task_factory import build_task
from tui_lab.core.training.trainer import Trainer


@dataclass(frozen=True)
class CheckedStage:
    """What happened at a stage. seconds: of all its runs and of the doctor; wait: until the stage was complete.

    problems: a sentence for each thing that is not as the lesson says, except facts.
    """

    stage: Stage
    seconds: float
    wait: float
    facts: tuple[CheckedFact, ...]
    problems: tuple[str, ...]

    @property
    def is_right(self) -> bool:
        """Whether everything is as the lesson says."""
        return not self.problems and all(fact.holds for fact in self.facts)


def check_runs(lesson: Lesson, seed: int = 0) -> Iterator[CheckedStage]:
    """Train the runs of a lesson, stage by stage. seed: added to that of every config.

    A run of another terminal's script is left out, and with it what is said about it. Raises what training raises.
    """
    return _RunCheck(lesson, seed).stages()


class _RunCheck:
    def __init__(self, lesson: Lesson, seed: int) -> None:
        self._lesson = lesson
        self._seed = seed
        self._current: Measurements | None = None
        self._trials: list[Measurements] = []

    def stages(self) -> Iterator[CheckedStage]:
        for stage in self._lesson.stages:
            yield self._stage(stage)

    def _stage(self, stage: Stage) -> CheckedStage:
        configs = self._lesson.configs[stage.id]
        problems = list[str]()
        begin = time.monotonic()
        wait: float | None = None
        if configs.start is not None:
            self._current, wait = self._train(configs.start, stage)
        elif stage.terminal is not None and stage.terminal.waits_for == "run":
            self._current = None
        if configs.trials:
            self._trials = [self._train(config, stage)[0] for config in configs.trials]
        if stage.diagnose is not None and configs.current is not None:
            problems += self._diagnose(stage, configs.current)
        seconds = time.monotonic() - begin
        labels = self._lesson.trial_labels(stage.id)
        facts = tuple(check_fact(fact, self._current, self._trials, labels) for fact in stage.facts)
        if self._current is None:
            facts = tuple(fact for fact in facts if fact.fact.runs == "trials" or fact.fact.trial)
        else:
            problems += self._unmet(stage, self._current)
        return CheckedStage(stage, seconds, seconds if wait is None else wait, facts, tuple(problems))

    def _train(self, config: Config, stage: Stage) -> tuple[Measurements, float | None]:
        """Return the measurements of a run, and the seconds until it completed the stage."""
        config = settings.changed(config, "train.seed", config.train.seed + self._seed)
        begin = time.monotonic()
        task = build_task(config)
        trainer = Trainer(set_up(with_kernels(config, task.tokenizer.n_vocab), task))
        measuring = Measuring()
        wait: float | None = None
        for event in trainer.events():
            measuring.update(event)
            if wait is None and stage.until is not None and not isinstance(event, ev.Started):
                wait = time.monotonic() - begin if is_reached(stage.until, measuring.now) else None
        return measuring.now, wait

    def _unmet(self, stage: Stage, current: Measurements) -> Iterator[str]:
        if stage.until is not None and not self._was_reached(stage, current):
            yield "the run never completes the stage: it does not reach what until asks for"
        question = stage.question
        if question is not None and question.kind == "number" and right_number(question, current) is None:
            yield "the run does not give the right answer of the question"

    def _was_reached(self, stage: Stage, current: Measurements) -> bool:
        # The end of the run counts as well as any step before.
        assert stage.until is not None
        return is_reached(stage.until, current) or any(
            is_reached(stage.until, _first_steps(current, n)) for n in range(1, len(current.steps))
        )

    def _diagnose(self, stage: Stage, config: Config) -> Iterator[str]:
        assert stage.diagnose is not None
        config = settings.changed(config, "train.seed", config.train.seed + self._seed)
        report = examine_config(config, None, lambda check: None)
        first = report.findings[0].code if report.findings else None
        if stage.diagnose.finding not in (None, first):
            result = "finds nothing" if first is None else f"finds {first} first"
            yield f"the doctor {result}, not {stage.diagnose.finding}"


def _first_steps(run: Measurements, n: int) -> Measurements:
    last = run.steps[n - 1]
    evaluations = [evaluation for evaluation in run.evaluations if evaluation[0] <= last]
    return Measurements(run.steps[:n], run.losses[:n], evaluations, run.n_vocab)
