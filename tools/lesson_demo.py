"""Record docs/lesson.gif, the animation of lesson 3 in README.md: the real app and real runs, driven by keys.

    python -m tools.lesson_demo [FILE.gif]

Takes about two minutes. As for docs/demo.gif, training waits for the recorder at chosen steps.
"""

import argparse
import asyncio
from collections.abc import Callable
from pathlib import Path

from tools.demo import SECONDS_OF_A_FRAME, Recorder, record_app, write
from tools.gif import Caption, Frame
from tui_lab.app.learn.screen import LessonScreen
from tui_lab.app.screens.home import Pick

FILE = Path(__file__).parents[1] / "docs" / "lesson.gif"
LESSON = "3-it-does-not-learn"
SIZE = (100, 29)
"""With fewer than 30 lines the active pane is alone below the text."""
STEPS = 60
TRIAL_STEPS = 25
"""Of each run, as in the files of the lesson."""
TRIAL_STEPS_OF_A_FRAME = 12
MOST_PAGES = 9


class Student:
    """Takes the lesson, and records it."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder

    @property
    def lab(self) -> LessonScreen:
        lab = self.recorder.lab
        assert isinstance(lab, LessonScreen)
        return lab

    @property
    def stage(self) -> str:
        """The id of the stage that is shown."""
        return self.lab.controller.guide.stage.id

    async def _enter_until(self, condition: Callable[[], bool]) -> None:
        """Turn pages that are not recorded."""
        await self.recorder.settle()
        for _ in range(MOST_PAGES):
            if condition():
                return
            await self.recorder.pilot.press("enter")
            await self.recorder.settle()
        raise AssertionError(f"what the recording waits for does not come after {self.stage}")

    async def go_on_to(self, stage: str, text: str, seconds: float) -> None:
        """Go to the next stage."""
        await self._enter_until(lambda: self.stage == stage)
        self.recorder.caption = Caption("Enter", text)
        await self.recorder.take(seconds)

    async def guess(self, number: str, text: str, seconds: float = 0.5) -> None:
        """Turn to the page with the question, and type a number."""
        await self._enter_until(lambda: self.lab.strip.guess.display)
        await self.recorder.pilot.press(*("full_stop" if sign == "." else sign for sign in number))
        self.recorder.caption = Caption(number, text)
        await self.recorder.take(0.8)
        await self.recorder.pilot.press("enter")
        await self.recorder.take(seconds)

    async def choose(self, number: str, text: str, seconds: float) -> None:
        """Turn to the page with the choices, let them be read, and choose one."""
        await self._enter_until(lambda: self.lab.strip.n_choices > 0)
        self.recorder.caption = Caption("", "your diagnosis?")
        await self.recorder.take(1.2)
        await self.recorder.press(number, text, seconds)

    async def start(self, text: str) -> None:
        """Press Enter, which trains or diagnoses."""
        self.recorder.caption = Caption("Enter", text)
        await self.recorder.take(0.6)
        await self.recorder.pilot.press("enter")

    async def train(self, text: str, *, every: int) -> None:
        """Start the run of the stage, with a frame after `every` steps, and let it end."""
        previous = self.lab
        opens_lab = previous.prepared != self.stage
        await self.start(text)
        if opens_lab:
            await self.recorder.wait_for_lab(previous)
            await self.recorder.settle()
        await self.recorder.train(STEPS, every, text)
        self.recorder.gate.limit = STEPS + 1  # The run evaluates, and ends.
        await self.recorder.wait_until(lambda: self.lab.state.over)

    async def train_trials(self, text: str) -> None:
        """Start the trials of the stage, with some frames of each, and let them end."""
        gate = self.recorder.gate
        gate.first_limit = TRIAL_STEPS_OF_A_FRAME
        await self.start(text)
        for number in range(1, len(self.lab.controller.guide.stage.trials) + 1):
            for step in range(TRIAL_STEPS_OF_A_FRAME, TRIAL_STEPS + 1, TRIAL_STEPS_OF_A_FRAME):
                await self._wait_for_trial(number, step)
                await self.recorder.take(SECONDS_OF_A_FRAME)
            gate.limit = TRIAL_STEPS + 1
        gate.first_limit = 0
        await self.recorder.wait_until(lambda: self.lab.controller.guide.done.complete)

    async def _wait_for_trial(self, number: int, step: int) -> None:
        """Let a trial train up to a step; its first steps need no permission (`first_limit`)."""

        def n_steps() -> int:
            curves = self.lab.loss_pane.overlays
            return len(curves[number - 1].curves["loss"].points) if len(curves) >= number else 0

        await self.recorder.wait_until(lambda: n_steps() > 0)
        self.recorder.gate.limit = step
        await self.recorder.wait_until(lambda: n_steps() >= step)


async def tell_story(recorder: Recorder) -> None:
    """From the first stage to the sentence to keep."""
    student = Student(recorder)
    await recorder.wait_until(lambda: isinstance(recorder.app.screen, LessonScreen))
    await recorder.wait_until(lambda: student.lab.state.phase == "paused")
    await recorder.read(f"tui-lab learn {LESSON}", 2.2)
    await _tune(recorder, student)
    await _look(recorder, student)
    await student.go_on_to("loader", "the first fix: pin the example", 0.1)
    await student.guess("0", "now it must go to zero")
    await student.train("train again; the run before is gray", every=6)
    await recorder.read("better, but it stops at 9.825", 1.8)
    await student.go_on_to("floor", "a curve that stops dead", 0.1)
    await student.choose("3", "something is wrong with the loss", 1.5)
    await student.go_on_to("doctor", "ask the doctor", 0.1)
    await student.start("ask the doctor")
    await recorder.wait_for_doctor()
    await recorder.read("a second softmax, and its evidence", 2.5)
    await student.go_on_to("softmax", "the second fix: remove the softmax", 0.6)
    await student.train("train again", every=5)
    await recorder.read("it learns", 1.5)
    await student.go_on_to("keep", "what to keep", 0.1)
    await recorder.press("Enter", "what to keep", 3.5, keys=("enter",))


async def _tune(recorder: Recorder, student: Student) -> None:
    """A run that does not learn, six trials, and Adam."""
    await student.go_on_to("start", "a question first", 0.1)
    await student.guess("10.825", "the loss of a uniform guess: ln 50,257", 0.8)
    await student.go_on_to("train", "one example, 60 times", 0.1)
    await student.guess("0", "your guess for the end")
    await student.train("train a real model", every=6)
    await recorder.read("it has not moved; the ? are the guesses", 1.8)
    await student.go_on_to("rates", "is it the learning rate?", 0.1)
    await student.train_trials("six more runs, real ones too")
    await recorder.read("none of them moves", 1.5)
    await student.go_on_to("adam", "another optimizer?", 0.1)
    await student.guess("1", "Adam will do it")
    await student.train("train with Adam", every=12)
    await recorder.read("1 % of the way", 1.2)


async def _look(recorder: Recorder, student: Student) -> None:
    """The examples of some steps, and what they show."""
    await student.go_on_to("look", "stop tuning: look at the batch", 1.2)
    for _ in range(3):
        await recorder.pilot.press("comma")
        recorder.caption = Caption(",", "a step back: another example")
        await recorder.take(0.6)
    await recorder.pilot.press("n")
    await student.choose("2", "a new one at every step", 1.8)


async def record() -> list[Frame]:
    return await record_app(Pick("lessons", LESSON), SIZE, tell_story)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=FILE)
    write(Path(parser.parse_args().file).absolute(), asyncio.run(record()))


if __name__ == "__main__":
    main()
