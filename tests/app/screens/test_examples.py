"""The examples screen over made-up answers, and its process over a real run."""

import io
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from textual.coordinate import Coordinate
from textual.pilot import Pilot

from tests.app.fake import AppWithoutHome, lab
from tests.app.run_folders import trained
from tui_lab.app.screens.examples import ExamplesScreen
from tui_lab.app.session.examples_process import Answered, ExamplesProcess, Message, Question, Working
from tui_lab.core import commands as cmd
from tui_lab.core.examples import worker
from tui_lab.core.examples.report import (
    CopyCount,
    ExamplesReport,
    Listed,
    Partition,
    Place,
    Share,
    ShownExample,
    from_json,
)
from tui_lab.core.examples.selection import Part, Sample
from tui_lab.data.tokenizers import DigitsTokenizer
from tui_lab.util.strict_json import dumps

TOKENIZER = DigitsTokenizer(5)


def shown(example: int, loss: float, part: Part = "train") -> ShownExample:
    losses = (None, 0.1, loss)
    return ShownExample(
        part, example, None, f"text{example}", (1, 2, 3), (-1, 2, 1), loss, losses, ((1,),) * 3, ((0.5,),) * 3, 1
    )


def report(question: Question) -> ExamplesReport:
    part: Part = "val" if question.part == "val" else "train"
    sample = Sample(2, 9, 9, 1, 0)
    if question.by == "classes":
        classes = (Share("digits", 6, 1.0, 0.75, 0.9, 0.5), Share("names", 2, 0.25, 0.25, 0.1, 0.0))
        return ExamplesReport("a", "classes", part, 8, (8,), sample, partitions=(Partition("kind", classes),))
    if question.by == "duplicates":
        place = Place("train", None, 77, 1.0, exact=True, text="copy", x=(1, 2, 3), y=(-1, 2, 1))
        bare = ShownExample("val", 5, None, "text5", (1, 2, 3), (-1, 2, 1))
        return ExamplesReport(
            "a", "duplicates", part, sample=sample, leaked=(Listed(bare, copies=CopyCount(1, 0, (place,))),)
        )
    return ExamplesReport(
        "a", "loss", part, 8, (8,), sample, 1.5, 0.25, 3, tuple(Listed(shown(i, 4.0 - i)) for i in range(3))
    )


@dataclass
class FakeAsker:
    """Keeps the questions; the test answers them."""

    asked: list[tuple[Question, bool]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    stopped: bool = False

    def ask(self, question: Question, *, live: bool) -> None:
        self.asked.append((question, live))

    def drain(self) -> list[Message]:
        messages, self.messages = self.messages, []
        return messages

    def stop(self) -> None:
        self.stopped = True


@dataclass
class Opened:
    pilot: Pilot[Any]
    screen: ExamplesScreen
    asker: FakeAsker

    async def answer(self, problem: str = "") -> None:
        question = self.asker.asked[-1][0]
        answered = (
            Answered(question, None, None, problem) if problem else Answered(question, report(question), TOKENIZER)
        )
        self.asker.messages.append(answered)
        self.screen.tick()
        await self.pilot.pause()

    def text(self, selector: str) -> str:
        widget = self.screen.query_one(selector)
        return "\n".join(widget.render_line(y).text.rstrip() for y in range(widget.size.height))


@asynccontextmanager
async def opened(size: tuple[int, int] = (80, 24)) -> AsyncIterator[Opened]:
    asker = FakeAsker()
    screen = ExamplesScreen("a", asker, None, live=lambda: True, step=lambda: 8)
    async with AppWithoutHome().run_test(size=size) as pilot:
        await pilot.app.push_screen(screen)
        await pilot.pause()
        yield Opened(pilot, screen, asker)


async def test_examples_are_opened_by_keys() -> None:
    async with opened() as it:
        assert it.asker.asked == [(Question("loss", "train", it.asker.asked[0][0].targets, 8), True)]
        it.asker.messages.append(Working(it.asker.asked[0][0], "measuring", 30, 40))
        it.screen.tick()
        assert "measuring 75 %" in it.text("#about")
        await it.answer()
        assert it.screen.table.row_count == 3 and not it.screen.cells.display
        await it.pilot.press("j", "enter")
        assert it.screen.cells.has_focus and it.screen.cells.display and not it.screen.table.display
        assert it.screen.cells.row == 1 and it.screen.cells.selected == 2
        assert "loss 3.000" in it.text("#cell")
        await it.pilot.press("h")
        assert "loss 0.100" in it.text("#cell")
        await it.pilot.press("escape")
        assert it.screen.table.has_focus and it.screen.table.cursor_row == 1


async def test_tab_goes_through_the_views_and_each_is_asked_for_once() -> None:
    async with opened() as it:
        await it.answer()
        await it.pilot.press("tab", "tab")
        await it.answer()
        assert it.screen.table.row_count == 1
        await it.pilot.press("enter", "n")
        assert it.screen.cells.example is not None and "77" in it.screen.cells.example.name
        await it.pilot.press("tab")
        await it.answer()
        assert [str(it.screen.table.get_cell_at(Coordinate(row, 5))) for row in (1, 2)] == ["90.0 %", "10.0 %"]
        n_asked = len(it.asker.asked)
        await it.pilot.press("tab")
        assert len(it.asker.asked) == n_asked and it.screen.table.row_count == 3
        await it.pilot.press("v")
        assert it.asker.asked[-1][0].part == "val"
        await it.answer()
        await it.pilot.press("m")
        assert it.asker.asked[-1][0].targets == 4 * it.asker.asked[0][0].targets
        await it.pilot.press("escape")
    assert it.asker.stopped


async def test_a_problem_is_shown_and_asked_again_by_key() -> None:
    async with opened((120, 40)) as it:
        await it.answer("this run has no checkpoint yet")
        assert "no checkpoint" in it.text("#about")
        await it.pilot.press("r")
        assert len(it.asker.asked) == 2
        await it.answer()
        assert it.screen.cells.display and it.screen.cells.row == 0
        await it.pilot.press("j")
        assert it.screen.cells.row == 1


async def test_key_of_the_lab_opens_the_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ExamplesProcess, "ask", lambda self, question, live: None)
    async with lab() as it:
        await it.pilot.press("E")
        await it.pilot.pause()
        assert isinstance(it.pilot.app.screen, ExamplesScreen)


def test_worker_answers_in_json() -> None:
    path = trained("a")
    assert answers(path, {"by": "classes", "targets": 100})[-1]["report"]["step"] == 3
    assert "--step" in answers(path, {"step": 1})[-1]["problem"]


def answers(path: Path, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lines of the worker, in this process."""
    out = io.StringIO()
    worker.answer(str(path), dumps(request), out)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def wait_for(process: ExamplesProcess) -> Answered:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for message in process.drain():
            if isinstance(message, Answered):
                return message
        time.sleep(0.02)
    raise AssertionError("no answer")


@pytest.mark.slow
def test_process_measures_a_copy_of_the_weights(tmp_path: Path) -> None:
    from tui_lab.core.runs.folder import Run
    from tui_lab.core.training import checkpoint as ckpt

    path = trained("a")
    weights = ckpt.load_weights(Run(path).latest() / "model.safetensors")

    def send(command: cmd.Command) -> None:
        assert isinstance(command, cmd.Snapshot)
        command.receive(weights, cmd.WeightsInfo(2))

    process = ExamplesProcess(path, send)
    process.ask(Question("loss", "train", 50), live=True)
    copied = wait_for(process)
    assert copied.report is not None and copied.report.step == 2
    process.ask(Question("loss", "train", 50), live=False)
    saved = wait_for(process)
    assert saved.report is not None and saved.report.step == 3
    assert saved.report.listed == copied.report.listed
    assert from_json(saved.report.to_json()) == saved.report


def test_refused_copy_is_the_answer(tmp_path: Path) -> None:
    def send(command: cmd.Command) -> None:
        assert isinstance(command, cmd.Snapshot) and command.refuse is not None
        command.refuse("no checkpoint yet")

    process = ExamplesProcess(tmp_path, send)
    process.ask(Question("loss", "train", 50), live=True)
    assert wait_for(process).problem == "no checkpoint yet"
