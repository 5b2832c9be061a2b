"""A student who takes a lesson with keys only, in a pseudo-terminal."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.app.test_end_to_end import Person
from tui_lab.core.lessons.facts import check_fact, measure, right_number
from tui_lab.core.lessons.load import load_lesson
from tui_lab.core.lessons.progress import Progress, load_progress
from tui_lab.core.lessons.schema import Stage

BAR = re.compile(r"(\d+)/(\d+) (?:see|predict|try|look|diagnose|fix|keep)\b.*")
READY = ("▸ ", "answer with", "type a number", "waits for the run")


@dataclass
class Walker:
    """folder: of the lesson; home: where its runs go. at_stage: called with the screen of each stage, once complete."""

    folder: Path
    home: Path
    size: tuple[int, int] = (80, 24)
    at_stage: Callable[[Stage, str], object] = lambda stage, screen: None
    person: Person = field(init=False)

    def __post_init__(self) -> None:
        self.lesson = load_lesson(self.folder)
        self.person = Person(self.home, "learn", str(self.folder), size=self.size)

    @property
    def bar(self) -> str:
        """Where the student is, and what Enter does or what happens."""
        found = [match[0] for line in self.person.screen.display if (match := BAR.search(line))]
        return found[0].rstrip() if found else ""

    def walk(self) -> Progress:
        """Take the lesson from the stage that is shown to its end; return the progress that was kept."""
        while True:
            before = self._wait_until_ready()
            index = int(before.partition("/")[0]) - 1
            stage = self.lesson.stages[index]
            if "✓ end of the lesson" in before or (stage.kind == "keep" and "all lessons" in before):
                self.at_stage(stage, self.person.sees)
                break
            if ": next" in before:
                self.at_stage(stage, self.person.sees)
            self._press(stage, before)
            self._wait_for_change(before)
        self.person.press("\r")
        self.person.wait_for("Lessons: real runs")
        self.person.press("q")
        assert self.person.leave() == 0
        return load_progress(self.lesson)

    def _wait_until_ready(self) -> str:
        self.person.wait_until(lambda screen: any(text in self.bar for text in READY))
        return self.bar

    def _wait_for_change(self, before: str) -> None:
        self.person.wait_until(lambda screen: self.bar != before)

    def _press(self, stage: Stage, bar: str) -> None:
        question = stage.question
        if question is not None and "answer with" in bar:
            self.person.press(str(question.right))
        elif question is not None and "type a number" in bar:
            number = right_number(question, None)
            self.person.press(f"{1.0 if number is None else number:g}\r")
        elif "Esc, n: next" in bar or "Esc: back" in bar:
            self.person.press("\x1b")
        elif "n: next" in bar:
            self.person.press("n")
        else:
            self.person.press("\r")


def failed_facts(progress: Progress) -> list[str]:
    """Return a sentence for each fact of the lesson that the recorded runs do not show."""
    failed = []
    for stage in progress.lesson.stages:
        run = progress.current_run(stage.id)
        current = None if run is None else measure(run.downsampled().events())
        trials = [measure(trial.downsampled().events()) for trial in progress.trials_of(stage.id)]
        for fact in stage.facts:
            checked = check_fact(fact, current, trials, progress.lesson.trial_labels(stage.id))
            if not checked.holds:
                failed.append(f"{stage.id}: {checked.sentence}")
    return failed
