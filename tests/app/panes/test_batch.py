"""The batch pane: which examples a step trains on, and the model's loss on them."""

import numpy as np
import pytest

from tests.app.fake import FakePlayback, Lab, lab, ready, update
from tui_lab.app.panes.batch import BatchPane
from tui_lab.app.panes.batch_age import age_text
from tui_lab.app.panes.batch_text import losses_text, step_text
from tui_lab.app.panes.cells import Cells
from tui_lab.app.screens.paint_scheduler import MAX_PAUSE
from tui_lab.app.session.messages import Rewound
from tui_lab.app.session.state import LabState, Phase
from tui_lab.core import events as ev
from tui_lab.core.commands import WeightsInfo
from tui_lab.core.inference.example import CellLosses
from tui_lab.core.training.step_time import StepTime
from tui_lab.core.training.task_factory import build_loader
from tui_lab.data.loader import Ids


def header_step(it: Lab) -> int:
    """Return the step in the pane's header, counted from 0."""
    return int(it.text("#order").split()[1].replace(",", "")) - 1


def assert_header_and_cells_are_of_one_step(it: Lab) -> None:
    batch = it.screen.state.loaders[0].batch(header_step(it))
    first = next(line for line in it.text("#cells").splitlines() if "example" in line)
    assert first.split()[2] == f"{batch.ids[0]:,}"


async def test_batch_shows_the_latest_step_or_any_other_and_the_selected_example_always() -> None:
    async with lab(size=(200, 50)) as it:
        loader = it.screen.state.loaders[0]
        lines = it.text("#cells").splitlines()
        x = lines[1].split()[1:]
        assert lines[2].split()[1:] == ["–"] * 5 + x[5::-1], "only the reversed half is a target"
        assert "1,920 of 235,648" in it.text("#drawn") and it.text("#drawn").endswith("all new")
        assert header_step(it) == 29

        await it.press("3")
        cells = it.screen.query_one(Cells)
        assert len(cells.visible_rows) >= 3
        for _ in range(7):
            await it.press("n")
            assert cells.example is not None and cells.example.row in cells.visible_rows
        await it.press(*"N" * 7)

        await it.press("comma")
        assert "step 29  1 step ago" in it.text("#order")
        await it.press("slash", *"5000", "enter")
        assert "step 5,000  after the last step, 2,500" in it.text(
            "#order"
        ) and f"{loader.batch(4999).ids[0]:,}" in it.text("#cells")
        await it.press("full_stop", "pagedown")
        assert "step 5,101" in it.text("#order")
        await it.press("i")
        assert header_step(it) == 29
        assert_header_and_cells_are_of_one_step(it)


@pytest.mark.parametrize(("width", "end"), [(60, "235,648"), (42, "63,936"), (30, "0"), (20, "future")])
def test_position_in_the_epoch_is_whole_or_left_out(width: int, end: str) -> None:
    opened = ready()
    assert opened.trainer_config is not None and opened.task is not None
    batch = build_loader(opened.trainer_config, opened.task).batch(999)
    shown = step_text(batch, LabState(step=30), width, following=False).plain
    assert len(shown) <= width and shown.endswith(end), shown


async def test_keys_walk_through_cells_and_examples_also_after_another_batch_size() -> None:
    async with lab() as it:
        await it.tell(ev.Paused(step=30))
        await it.press("3")
        cells = it.screen.query_one(Cells)
        await it.press("l", "l", "right", "h")
        assert (cells.index, cells.selected) == (0, 2)
        await it.press("j")
        assert (cells.index, cells.selected) == (1, 2)
        await it.press("down", "k", "k", "up")
        assert (cells.index, cells.selected) == (0, 2)
        assert not it.source.sent, "letters in the cells change no setting"

        await it.press("n")
        assert "2/64" in it.text("#cell")
        await it.press("N", "N")
        assert "64/64" in it.text("#cell") and "64/64" in it.text("#cells")

        await it.tell(ev.Changed(step=30, key="train.batch_size", old=64, new=2), update(31))
        await it.tell(ev.Paused(step=31))
        batch = it.screen.query_one(BatchPane).loaded.shown_batch
        assert batch is not None and len(batch.ids) == 2


async def test_pane_opens_on_a_batch_that_became_smaller_while_it_was_hidden() -> None:
    async with lab(size=(80, 24)) as it:
        await it.press("3")
        assert len(it.screen.query_one(Cells).visible_rows) > 1
        await it.press("2")
        await it.tell(ev.Changed(step=30, key="train.batch_size", old=64, new=1), update(31))
        await it.press("3")
        assert len(it.screen.query_one(Cells).visible_rows) == 1


async def test_drawn_line_says_when_the_examples_were_drawn_before() -> None:
    async with lab("reverse", "data.overfit=1", steps=30, size=(200, 50)) as it:
        assert "1 of 1" in it.text("#drawn") and it.text("#drawn").endswith("all drawn 1 step before")
        await it.pilot.resize_terminal(120, 40)
        await it.tell()
        assert it.text("#drawn").endswith("all drawn 1 step before")


def answer_inspections(it: Lab) -> None:
    """Run the functions that wait for the model, without one."""
    inspections, it.source.looks = it.source.looks, []
    for inspection in inspections:
        inspection.look(None)  # type: ignore[arg-type]


class Measured:
    """Stands for `row_losses`: the loss of a row is that of its first token id."""

    def __init__(self) -> None:
        self.n_rows: list[int] = []

    def __call__(self, model: object, x: Ids, y: Ids) -> list[CellLosses]:
        self.n_rows.append(len(x))
        T = x.shape[1]
        shape = (np.tile(np.arange(5), (T, 1)), np.full((T, 5), 0.2, np.float32))
        return [CellLosses(np.full(T, float(row[0]), np.float32), *shape) for row in x]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    measured = Measured()
    monkeypatch.setattr("tui_lab.core.inference.example.row_losses", measured)
    return measured


async def test_header_and_cells_are_of_one_step_while_losses_are_late(measured: Measured) -> None:
    async with lab() as it:
        await it.press("3")
        for step in range(31, 60):
            it.source.items.append(update(step))
            it.now[0] += 0.3
            it.screen.tick()
            if step % 5 == 0:
                answer_inspections(it)
            await it.pilot.pause()
            assert_header_and_cells_are_of_one_step(it)
        assert measured.n_rows


@pytest.mark.parametrize(
    ("age", "phase", "seconds", "following", "text"),
    [
        (0, "running", 0.01, True, "recent"),
        (300, "running", 0.01, True, "recent"),
        (30_123, "running", 0.01, True, "about 30,000 steps ago"),
        (0, "running", 2.0, True, ""),
        (1, "running", 2.0, True, "1 step ago"),
        (37, "running", 0.01, False, "about 40 steps ago"),
        (37, "paused", 0.01, True, "37 steps ago"),
        (0, "running", None, True, ""),
    ],
)
def test_age_of_a_batch_does_not_change_all_the_time(
    age: int, phase: Phase, seconds: float | None, following: bool, text: str
) -> None:
    state = LabState(phase=phase, step_time=StepTime(seconds=seconds))
    assert age_text(age, state, following=following) == text


async def test_header_says_how_old_the_batch_is(measured: Measured) -> None:
    async with lab() as it:
        await it.press("3")
        answer_inspections(it)
        it.source.items += [update(step) for step in range(31, 35)]
        it.now[0] += MAX_PAUSE  # The losses that have just arrived can still be read.
        for _ in range(8):
            it.screen.tick()
        await it.pilot.pause()
        assert it.text("#order").startswith("step 30  recent")
        await it.tell(ev.Paused(step=34))
        assert it.text("#order").startswith("step 34  epoch")


async def test_batch_of_a_replay_is_that_of_the_step_shown(measured: Measured) -> None:
    async with lab() as it:
        it.source.role = "replay"
        it.source.playback = FakePlayback(position=30)
        opened, begun = it.screen.state.ready, it.screen.state.started
        assert opened is not None and begun is not None
        await it.press("3")
        answer_inspections(it)
        await it.tell(*(update(step) for step in range(31, 52)))
        assert it.text("#order").startswith("step 51  epoch")
        answer_inspections(it)
        await it.tell(Rewound(opened, (begun, *(update(step) for step in range(1, 11)))))
        assert it.text("#order").startswith("step 10  epoch")
        await it.tell(*(update(step) for step in range(11, 14)), ev.Paused(step=13))
        assert it.text("#order").startswith("step 13  epoch")
        assert_header_and_cells_are_of_one_step(it)


async def test_losses_are_gray_until_measured_at_once_when_paused_and_at_the_end_and_follow_the_theme(
    measured: Measured,
) -> None:
    async with lab() as it:
        assert "loss –" in it.text("#cells").splitlines()[0]
        for event in (ev.Paused(step=30), ev.Stopped(step=30, reason="done")):
            await it.tell(event)
            answer_inspections(it)
            await it.tell()
            title = it.text("#cells").splitlines()[0]
            assert "loss –" not in title and "loss" in title
        cells = it.screen.query_one(Cells)

        def backgrounds() -> set[str]:
            return {str(segment.style.bgcolor) for segment in cells.render_line(2) if segment.style}

        dark = backgrounds()
        it.pilot.app.theme = "textual-light"
        await it.tell()
        assert not dark & backgrounds()


async def test_border_explains_losses_that_are_not_the_loss_of_the_run(measured: Measured) -> None:
    async with lab("reverse", 'faults=["double_softmax"]', size=(120, 40)) as it:
        await it.tell(ev.Paused(step=30))
        answer_inspections(it)
        await it.tell()
        title = str(it.screen.query_one(BatchPane).border_title)
        assert title.endswith("cross-entropy of step 30") and title in it.painted(), "all of it is seen"
        await it.pilot.resize_terminal(80, 24)
        await it.press("3")
        title = str(it.screen.query_one(BatchPane).border_title)
        assert "logits of step 30, not the run's loss" in title and title in it.painted()


async def test_border_names_the_saved_weights_of_the_losses_or_why_there_are_none(measured: Measured) -> None:
    async with lab() as it:
        it.source.role = "steering"
        await it.tell(ev.Paused(step=30))
        for look in it.source.looks:
            assert look.refuse is not None
            look.refuse("this run has no checkpoint yet")
        it.source.looks = []
        await it.tell()
        title = str(it.screen.batch_pane.border_title)
        assert "checkpoint (c)" in title and it.source.looks, "it asks again"
        await it.tell(ev.Saved(step=30, path="checkpoints/a"))
        assert "checkpoint" not in str(it.screen.batch_pane.border_title)
        for look in it.source.looks:
            assert look.loaded is not None
            look.loaded(WeightsInfo(1_116))
        answer_inspections(it)
        await it.tell()
        assert "weights of step 1,116 " in it.painted() and "loss –" not in it.text("#cells")


async def test_examples_are_sorted_by_loss_of_the_whole_batch(measured: Measured) -> None:
    async with lab(size=(200, 50)) as it:
        await it.tell(ev.Paused(step=30))
        await it.press("3", "m")
        answer_inspections(it)
        await it.tell()
        assert measured.n_rows[-1] == 64
        shown = [float(line.split()[-1]) for line in it.text("#cells").splitlines() if "loss" in line]
        batch = it.screen.state.loaders[0].batch(29)
        assert shown == sorted(batch.x[:, 0].tolist(), reverse=True)[: len(shown)]


async def test_cell_shows_its_loss_and_the_top_predictions(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = np.linspace(0, 6, 128, dtype=np.float32)
    one = CellLosses(losses, np.tile(np.arange(5), (128, 1)), np.full((128, 5), 0.2, np.float32))
    monkeypatch.setattr("tui_lab.core.inference.example.row_losses", lambda model, x, y: [one] * len(x))
    async with lab("socrates", size=(200, 50)) as it:
        await it.tell(ev.Paused(step=30))
        answer_inspections(it)
        await it.tell()
        await it.press("3", "end")
        shown = it.text("#cell")
        assert all(part in shown for part in ("t = 127", "loss 6.000", "top ", "source token"))
        assert "█" in it.text("#cells"), "a large loss is marked without color too"
        await it.press("home", "right", "down", "up", "left")
        assert it.screen.query_one(Cells).selected == 0 and "loss 0.000" in it.text("#cell")


def test_title_names_the_whole_step_of_the_weights_in_a_narrow_pane() -> None:
    weights = WeightsInfo(1_028)
    texts = [losses_text(weights, width) for width in (40, 26, 3)]
    assert all("step 1,028" in text for text in texts) and [len(text) for text in texts] == sorted(
        (len(text) for text in texts), reverse=True
    )
    assert len(texts[1]) <= 26 and "best" in losses_text(WeightsInfo(1_028, best=True), 26)
