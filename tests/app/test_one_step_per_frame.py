"""Whatever happens, the parts of a painted frame are of one step, or say their age."""

import random
from pathlib import Path

import pytest

from tests.app.fake import FakeSource, Lab, evaluated, lab, ready, update
from tests.app.frame_numbers import FrameNumbers, contradictions, numbers_of
from tui_lab.core import events as ev
from tui_lab.core.training.task_factory import build_loader
from tui_lab.data.loader import Loader

KEYS = ("2", "3", "4", "5", "z", "m", "comma", "full_stop", "i", "left", "escape", "u", "L", "g")

SNAPSHOTS = sorted((Path(__file__).parent / "__snapshots__").rglob("test_*panes_at_*.txt"))


class Run:
    """A fake run that does what `choice` says; `step` is its last step."""

    def __init__(self, source: FakeSource, choice: random.Random, step: int) -> None:
        self.source = source
        self.choice = choice
        self.step = step
        self.paused = False

    def happen(self) -> None:
        """Give the source the messages of a random time."""
        for _ in range(self.choice.randrange(4)):
            self.step += 1
            self.source.items.append(update(self.step, loss=self.step / 1000))
        event = self.choice.choice(("evaluated", "changed", "saved", "paused", *["nothing"] * 4))
        if event == "evaluated":
            self.source.items.append(evaluated(self.step))
        elif event == "changed":
            self.source.items.append(ev.Changed(step=self.step, key="optim.lr", old=0.001, new=0.002))
        elif event == "saved":
            self.source.items.append(ev.Saved(step=self.step, path="checkpoint"))
        elif event == "paused":
            self.paused = not self.paused
            self.source.items.append(ev.Paused(step=self.step) if self.paused else ev.Resumed(step=self.step))


def _check_cells(numbers: FrameNumbers, loader: Loader) -> None:
    """Check that the cells show an example of the batch in the header."""
    if numbers.batch is not None and numbers.example is not None:
        row, example = numbers.example
        assert loader.batch(numbers.batch[0] - 1).ids[row - 1] == example


async def _check_frame(it: Lab, history: list[str]) -> None:
    await it.pilot.pause()
    frame = it.painted()
    assert not contradictions(frame), (contradictions(frame), history[-8:], frame)
    numbers = numbers_of(frame)
    assert numbers is not None
    if (chart := it.screen.loss_pane).display:
        assert chart.last_step == numbers.status
    if (loader := it.screen.state.loader_at(0)) is not None:
        _check_cells(numbers, loader)


async def test_parts_of_a_frame_are_of_one_step_after_any_messages_ticks_and_keys() -> None:
    choice = random.Random(0)
    history: list[str] = []
    async with lab(size=(120, 50)) as it:
        run = Run(it.source, choice, step=30)
        for _ in range(40):
            run.happen()
            it.now[0] += choice.choice((0.05, 0.1, 0.3, 1.2))
            if choice.random() < 0.2:
                history.append(key := choice.choice(KEYS))
                await it.pilot.press(key)
            else:
                history.append("tick")
                it.screen.tick()
            await _check_frame(it, history)


@pytest.mark.parametrize("path", SNAPSHOTS, ids=lambda path: path.stem)
def test_parts_of_a_snapshot_are_of_one_step(path: Path) -> None:
    painted = path.read_text("utf-8")
    numbers = numbers_of(painted)
    assert numbers is not None and not contradictions(painted)
    opened = ready()
    assert opened.task is not None and opened.trainer_config is not None
    _check_cells(numbers, build_loader(opened.trainer_config, opened.task))


def test_contradictions_are_seen() -> None:
    panes = "│ step 30  epoch 0, 1,920/235,648 │\n│ loss      ██▄▄  0.07419 │\n"
    frame = f"{panes}‖ paused reverse-1  step 31/2,500  loss 0.0642"
    assert len(contradictions(frame)) == 2
    assert not contradictions(frame.replace("step 30", "step 30  1 step ago").replace("0.0642", "0.0742"))
