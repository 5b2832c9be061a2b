"""The rows of a step: from the loss pane to the rows, their targets and history, and back by a rewound run."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from textual.widgets import OptionList, Static

from tests.app.fake import Lab, lab, painted, update
from tui_lab.app.app import LabApp
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.screens.dialogs import Ask
from tui_lab.app.screens.lab import LabScreen
from tui_lab.app.screens.step_rows import StepRowsScreen
from tui_lab.app.screens.step_rows_text import history_line, row_text, seen_text, strips
from tui_lab.app.session.step_rows import Explained, RowsMessage, TargetsMeasured
from tui_lab.core.config import settings
from tui_lab.core.inference.example import CellLosses
from tui_lab.core.runs.explain import Explanation, RowLoss, SeenRow, StepRows
from tui_lab.core.runs.spikes import Spike
from tui_lab.data.tokenizers import CharTokenizer, IdTokenizer

SPIKE = 60
N_STEPS = 80


def row_loss(row: int, loss: float, *history: tuple[int, float], digits: str = "314159") -> RowLoss:
    tokens = np.array([int(digit) for digit in digits])
    y = np.array([-1, -1, -1, *tokens[:2:-1]])
    return RowLoss(row, 100 + row, None, loss, tokens, y, tuple(SeenRow(*seen) for seen in history))


def explanation(step: int = SPIKE, checkpoint_step: int | None = 50, n_suspects: int = 1) -> Explanation:
    """Return that of a step with four rows, of which the third in the batch has the highest loss."""
    losses = {2: 9.5, 0: 2.0, 3: 1.5, 1: 1.0}
    histories = {2: ((7, 3.0), (31, 2.5)), 0: ()}
    at = StepRows(step, 3.5, tuple(row_loss(row, loss, *histories.get(row, ())) for row, loss in losses.items()))
    before = StepRows(step - 1, 1.4, (row_loss(1, 1.6), row_loss(0, 1.2)))
    return Explanation(
        at=at,
        before=before,
        after=StepRows(step + 1, 1.5, (row_loss(0, 1.7), row_loss(1, 1.3))),
        suspects=at.rows[:n_suspects],
        checkpoint_step=checkpoint_step,
        spike=Spike(step, 3.5, 1.4, 0.1),
        loss_without=1.5 if n_suspects else None,
        config=settings.load("reverse", []),
        n_examples=1000,
    )


@dataclass
class FakeReader:
    """Answers at once."""

    asked: list[int] = field(default_factory=list)
    measured: list[int] = field(default_factory=list)
    answers: list[RowsMessage] = field(default_factory=list)
    explanations: dict[int, Explanation] = field(default_factory=dict)

    def explain(self, step: int) -> None:
        self.asked.append(step)
        known = self.explanations.get(step)
        error = "" if known else f"the rows of step {step} are not kept"
        self.answers.append(Explained(step, known, error))

    def measure(self, row: RowLoss, checkpoint_step: int | None) -> None:
        self.measured.append(row.example)
        losses = np.array([np.nan] * 3 + [0.1, 8.0, 0.2], np.float32)
        cells = CellLosses(losses, np.zeros((6, 1), np.int64), np.ones((6, 1), np.float32))
        self.answers.append(TargetsMeasured(row.example, checkpoint_step, cells, "the weights of step 50"))

    def drain(self) -> list[RowsMessage]:
        answers, self.answers = self.answers, []
        return answers

    def close(self) -> None:
        pass


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> FakeReader:
    fake = FakeReader(explanations={SPIKE: explanation(), SPIKE + 1: explanation(SPIKE + 1, n_suspects=0)})
    monkeypatch.setattr("tui_lab.app.screens.spike_controls.RowsReader", lambda folder, send: fake)
    return fake


@pytest.fixture
def restarts(monkeypatch: pytest.MonkeyPatch) -> list[LabScreen.Restart]:
    """The new runs that are asked for; none is started."""
    messages: list[LabScreen.Restart] = []
    monkeypatch.setattr(LabApp, "on_lab_screen_restart", lambda app, message: messages.append(message))
    return messages


async def tell_spike(it: Lab) -> None:
    """Let the run make 80 steps, with a spike."""
    losses = {SPIKE: 3.5}
    await it.tell(*(update(step, loss=losses.get(step, 1.4 + 0.01 * (step % 3))) for step in range(1, N_STEPS + 1)))


async def opened(it: Lab) -> StepRowsScreen:
    await it.pilot.press("2", "N", "enter")
    screen = it.pilot.app.screen
    assert isinstance(screen, StepRowsScreen)
    await ticked(it, screen)
    return screen


async def ticked(it: Lab, screen: StepRowsScreen) -> None:
    await it.keys_carried_out()
    screen.tick()
    screen.tick()
    await it.pilot.pause()


async def test_spike_is_logged_marked_and_explained_by_keys(
    reader: FakeReader, restarts: list[LabScreen.Restart]
) -> None:
    async with lab("reverse", "train.steps=90", steps=0) as it:
        await tell_spike(it)
        assert it.screen.events_pane.copied().count("(2 N Enter: its rows)") == 1
        pane = it.screen.query_one(LossPane)
        assert "n N spike" in pane.hints
        screen = await opened(it)
        assert pane.cursor == SPIKE and reader.asked == [SPIKE]
        assert screen.row is not None and screen.row.example == 102
        assert reader.measured == [102] and screen.view.cells.selected == 4, "the target with the largest loss"
        text = painted(it.pilot.app)
        assert "▲ 1 of 4 rows" in text and "3.000 at step 7, 2.500 at step 31" in text

        await it.pilot.press("down")
        assert screen.row.example == 100
        await it.pilot.press("full_stop")
        await ticked(it, screen)
        assert screen.explanation is not None and screen.explanation.at.step == SPIKE + 1
        await it.pilot.press("comma", "comma")
        await ticked(it, screen)
        assert screen.explanation is None and "not kept" in painted(it.pilot.app)

        await it.pilot.press("n")
        await ticked(it, screen)
        await it.pilot.press("r")
        dialog = it.pilot.app.screen
        assert isinstance(dialog, Ask)
        assert "step 50" in str(dialog.query_one("#question", Static).content)
        assert "30 steps are done again" in str(dialog.query_one("#question", Static).content)
        assert [option.id for option in dialog.query_one(OptionList).options] == ["skip", "lower_lr", "cancel"]
        await it.pilot.press("escape", "escape")
        assert it.pilot.app.screen is it.screen and not restarts


def test_texts_of_rows() -> None:
    shown = explanation()
    first, second = shown.at.rows[:2]
    assert seen_text(first) == "2×, 2.50 at 31" and seen_text(second) == "new"
    assert "2.500 at step 31 → 9.500" in history_line(first, 80).plain
    long = row_loss(0, 1.0, *((step, 1.0) for step in range(50)))
    assert "before: …, 1.000 at step 49" in history_line(long, 40).plain
    assert row_text(CharTokenizer().encode("ab\ncd"), CharTokenizer(), 3) == "ab↵c"
    assert row_text([3, 14], IdTokenizer(20), 9) == "3 14"
    lines = strips(shown, 80).plain.split("\n")
    assert len(lines) == 4 and all(len(line) == 80 for line in lines)
    assert lines[2].endswith("▲") and "▲" not in lines[1] + lines[3]
