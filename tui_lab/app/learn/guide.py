"""Where a student is in a lesson: what the stage still needs, and whether it is complete. Knows no widgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tui_lab.core.lessons.facts import Measurements, check_fact, is_reached, is_right, right_number
from tui_lab.core.lessons.progress import Progress, StageProgress
from tui_lab.core.lessons.schema import LN_VOCAB_SIZE, Question, Stage
from tui_lab.util.errors import RunError

Need = Literal["question", "action", "wait", "nothing"]
"""question: an answer; action: Enter starts something; wait: it runs; nothing: the stage is complete or has no goal."""
NO_FINDING = "no finding"


@dataclass(frozen=True)
class Guess:
    """A number that the student gave, where it is drawn."""

    metric: str
    step: int
    value: float


class Guide:
    """Call `update` with what the runs measured; every change is saved at once.

    A stage without a question, an action or a condition is complete when it is left.
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.current: Measurements | None = None
        """Of the lesson's current run."""
        self.trials: Sequence[Measurements] = ()
        """Of the latest trials."""
        self.problem = ""
        """Why the progress could not be saved."""
        if not progress.is_started:
            self.go_to(0)

    @property
    def index(self) -> int:
        return self.progress.index

    @property
    def stage(self) -> Stage:
        return self.progress.stage

    @property
    def text(self) -> str:
        return self.progress.lesson.texts[self.stage.id]

    @property
    def done(self) -> StageProgress:
        """What has happened at the stage."""
        return self.progress.of(self.stage.id)

    @property
    def is_last(self) -> bool:
        return self.index == len(self.progress.lesson.stages) - 1

    def go_to(self, index: int) -> bool:
        """Go to a stage, if there is one with this index; return whether there is."""
        if not 0 <= index < len(self.progress.lesson.stages):
            return False
        self.progress.go_to(self.progress.lesson.stages[index].id)
        self.save()
        return True

    def leave_forward(self) -> bool:
        """Go to the next stage; after the last one, the lesson is finished. Return whether there is a next one."""
        if self.need == "nothing" and not self.done.complete and self.stage.until is None:
            self.done.complete = True
        if self.is_last:
            self.progress.finish()
            self.save()
            return False
        return self.go_to(self.index + 1)

    @property
    def need(self) -> Need:
        done = self.done
        if self.stage.question is not None and not done.is_answered:
            return "question"
        if self.stage.has_action and not self.has_acted:
            return "action"
        is_waiting = self.stage.has_action or self.stage.until is not None
        return "wait" if is_waiting and not done.complete else "nothing"

    @property
    def has_acted(self) -> bool:
        """Whether what Enter starts at this stage was started."""
        done = self.done
        return bool(done.complete or done.run or done.trials or done.finding or done.sentence)

    @property
    def hides_ln_vocab_size(self) -> bool:
        """Whether the value of ln V is asked for, and not answered yet."""
        question = self.stage.question
        return self.need == "question" and question is not None and question.answer == LN_VOCAB_SIZE

    # What the student does

    def answer(self, given: float) -> None:
        """Take the number of a choice, from 1, or a guess, as the answer to the stage's question."""
        question = self.stage.question
        if question is None:
            return
        if question.kind == "choice":
            if not 1 <= given <= len(question.choices):
                return
            self.done.choice = int(given)
        else:
            self.done.guess = given
        self.done.right = is_right(question, given, self._asked_about)
        self.save()

    def sentence_typed(self, sentence: str) -> None:
        """The student has typed a sentence, to see it split."""
        self.done.sentence = sentence
        self._complete()

    def run_started(self, name: str) -> None:
        """name: of the folder of the run that the stage has started."""
        self.current = None
        self.done.run = name
        self.done.complete = False
        self.done.failed_facts = []
        self.save()

    def trials_started(self, names: Sequence[str]) -> None:
        self.done.trials = list(names)
        self.done.complete = False
        self.save()

    def trials_ended(self) -> None:
        self._complete()

    def diagnosed(self, codes: Sequence[str]) -> None:
        """codes: of the doctor's findings about the current run; the first one counts."""
        expected = self.stage.diagnose.finding if self.stage.diagnose is not None else None
        self.done.finding = str(expected) if expected in codes else next(iter(codes), NO_FINDING)
        self._complete()

    def confirmed(self) -> None:
        """The student says that what the stage asks for is done."""
        self._complete()

    # What the runs measure

    def update(self, current: Measurements | None, trials: Sequence[Measurements]) -> bool:
        """Return whether the stage is complete since this call, or the answer has become right or wrong."""
        self.current = current
        self.trials = trials
        changed = self._judge_guess()
        if self.need == "wait" and self._is_reached(current):
            self._complete()
            return True
        return changed

    @property
    def _asked_about(self) -> Measurements | None:
        """What is measured of the run that the stage's question is about: the one that it starts, if it starts one."""
        starts_run = self.stage.run is not None or self.stage.fix is not None
        return None if starts_run and not self.done.run else self.current

    def _judge_guess(self) -> bool:
        question = self.stage.question
        guess = self.done.guess
        if question is None or guess is None or self.done.right is not None:
            return False
        self.done.right = is_right(question, guess, self._asked_about)
        return self.done.right is not None

    def _is_reached(self, current: Measurements | None) -> bool:
        if current is None or self.stage.trials or self.stage.diagnose is not None:
            return False
        if self.stage.until is None:
            return current.ended and self.stage.terminal is None
        return is_reached(self.stage.until, current)

    def _complete(self) -> None:
        labels = self.progress.lesson.trial_labels(self.stage.id)
        checked = [check_fact(fact, self.current, self.trials, labels) for fact in self.stage.facts]
        self.done.failed_facts = [each.sentence for each in checked if each.holds is False]
        self.done.complete = True
        if self.is_last:
            self.progress.finish()
        self.save()

    @property
    def right_number(self) -> float | None:
        """The right answer to the stage's question, once it is known."""
        question = self.stage.question
        return None if question is None or question.kind == "choice" else right_number(question, self._asked_about)

    def save(self) -> None:
        try:
            self.progress.save()
        except RunError as error:
            self.problem = str(error)


def guesses(progress: Progress) -> list[Guess]:
    """Return the guesses to be drawn in the chart: that of the stage, and earlier ones about the run that it shows."""
    shown = _run_at(progress, progress.index)
    drawn: list[Guess] = []
    for i, stage in enumerate(progress.lesson.stages[: progress.index + 1]):
        guess = progress.of(stage.id).guess
        place = _drawn_at(stage.question)
        if guess is None or place is None:
            continue
        if i == progress.index or _run_asked_about(progress, i) == shown:
            drawn.append(Guess(*place, guess))
    return drawn


def _run_at(progress: Progress, index: int) -> str:
    """Return the name of the current run at a stage; empty before the first one."""
    stages = reversed(progress.lesson.stages[: index + 1])
    return next((run for stage in stages if (run := progress.of(stage.id).run)), "")


def _run_asked_about(progress: Progress, index: int) -> str:
    """Return the name of the run that a question is about: its stage's own, the current one, or the first one."""
    stage = progress.lesson.stages[index]
    if stage.run is not None or stage.fix is not None:
        return progress.of(stage.id).run
    runs = (progress.of(later.id).run for later in progress.lesson.stages[index:])
    return _run_at(progress, index) or next(filter(None, runs), "")


def _drawn_at(question: Question | None) -> tuple[str, int] | None:
    """Return the metric and the step where the answer to a question is drawn, if it is."""
    if question is None or question.draw is None or not isinstance(question.draw.step, int):
        return None
    return question.draw.metric, question.draw.step
