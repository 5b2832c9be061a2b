"""Early stopping: the best validation loss is marked and described, and its weights generate."""

import math

from tests.app.fake import Lab, lab, update
from tui_lab.app.panes.generation import GenerationPane
from tui_lab.app.panes.loss import LossPane
from tui_lab.app.session.messages import GenerationStarted
from tui_lab.app.widgets.chart import Chart
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev


async def evaluations(it: Lab, *losses: float) -> None:
    """One every ten steps, from step 40 on."""
    best = min(losses)
    for i, loss in enumerate(losses):
        step = 40 + 10 * i
        evaluation = ev.Evaluated(
            step=step,
            val_loss=loss,
            exact_match=0.5,
            perplexity=None,
            examples=8,
            best=i <= losses.index(best),
            since_best=max(0, i - losses.index(best)),
        )
        await it.tell(update(step), evaluation)


def dots(it: Lab) -> list[tuple[float, float]]:
    """The places of the marks in the chart."""
    return [(dot.x, dot.y) for dot in it.screen.query_one(Chart).plot.drawing.dots]


async def test_best_evaluation_is_marked_and_described() -> None:
    async with lab("reverse", "train.patience=3", size=(80, 24)) as it:
        await evaluations(it, 0.16, 0.12, 0.1, 0.13)
        assert dots(it) == [(60.0, 0.1)]
        assert it.text("#best").startswith("● best 0.1 at step 60 · no improvement for 1 eval (patience 3)")
        await it.tell(update(110), ev.Stopped(step=110, reason="patience", restored=60))
        text = "● best 0.1 at step 60, restored · stopped at step 110 (patience 3)"
        assert it.text("#best").strip() == text
        assert dots(it) == [(60.0, 0.1)]


async def test_mark_follows_the_log_axis_and_a_new_best() -> None:
    async with lab("reverse", "train.patience=3") as it:
        await evaluations(it, 0.15, 0.1)
        await it.press("2", "Y", "Y")
        assert dots(it) == [(50.0, 0.1)]
        plot = it.screen.query_one(Chart).plot
        assert plot.row(0.1) == round((plot.height - 1) * math.log(2.3 / 0.1) / math.log(2.3 / (2.3 / 50)))
        await it.press("Y")
        await it.tell(
            update(60), ev.Evaluated(step=60, val_loss=0.05, exact_match=0.5, perplexity=None, examples=8, best=True)
        )
        assert dots(it) == [(60.0, 0.05)] and "best 0.05 at step 60 · patience 3" in it.text("#best")
        assert "●" in it.text("#chart"), "the newest and lowest point of all is drawn"


async def test_best_is_not_described_while_the_loss_falls() -> None:
    async with lab() as it:
        await evaluations(it, 0.15, 0.1)
        assert not it.screen.query_one("#best").display and it.screen.query_one(LossPane).display
        await evaluations(it, 0.15, 0.1, 0.2)
        assert "no improvement for 1 eval" in it.text("#best") and "patience" not in it.text("#best")


async def test_reply_and_log_name_the_best_weights() -> None:
    async with lab(size=(200, 50)) as it:
        await it.tell(ev.Stopped(step=30, reason="patience", restored=15))
        text = "stopped early (no improvement); restored the best weights, of step 15"
        assert text in it.text("#log").replace("\n", " ")
        await it.press("g")
        pane = it.screen.query_one(GenerationPane)
        pane.receive(GenerationStarted(1, cmd.WeightsInfo(20, best=True)))
        await it.tell()
        assert it.text("#replies").startswith("best, step 20 ")
