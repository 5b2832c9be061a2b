"""Progress before and during a run."""

import io
import re
import threading

import pytest
from rich.console import Console

from tui_lab.cli.progress import Bar, preparing
from tui_lab.core.events import Changed, Evaluated, Event, Paused, Resumed, Started, StepDone
from tui_lab.runs.event_text import event_text
from tui_lab.util.errors import ConfigError


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("fails", [False, True])
def test_the_bar_ends_with_its_block_even_after_an_error(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that redraws the bar would paint over what follows."""
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    before, painters = set(threading.enumerate()), set[threading.Thread]()
    try:
        with preparing() as report:
            assert report is not None
            report("choosing kernels", 0, 1)
            painters = set(threading.enumerate()) - before
            assert painters, "a thread redraws the bar"
            if fails:
                raise ConfigError("an error")
    except ConfigError:
        assert fails
    for painter in painters:  # A stopped thread ends at its next turn.
        painter.join(10.0)
        assert not painter.is_alive()
    assert "choosing kernels" in terminal.getvalue()


def test_no_bar_if_silent_or_without_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Terminal())
    with preparing(silent=True) as report:
        assert report is None
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with preparing() as report:
        assert report is None


@pytest.mark.parametrize(
    ("exact_match", "perplexity", "metric"),
    [(0.5, None, ", exact match 50%"), (None, 12.5, ", perplexity 12.5"), (None, None, "")],
)
def test_an_evaluation_shows_the_metric_that_it_has(
    exact_match: float | None, perplexity: float | None, metric: str
) -> None:
    event = Evaluated(step=3, val_loss=2.5, exact_match=exact_match, perplexity=perplexity, examples=8, best=False)
    assert event_text(event) == f"step 3: validation loss 2.5{metric}"


def test_the_time_left_has_no_pauses_in_it() -> None:
    out = io.StringIO()
    bar = Bar(Console(file=out, force_terminal=True, width=150))

    def shown(event: Event) -> str:
        out.truncate(0)
        bar.show(event)
        bar._progress.refresh()
        return out.getvalue()

    def done(step: int) -> StepDone:
        return StepDone(
            step=step, loss=1.0, loss_ema=1.0, lr=0.1, grad_norm=1.0, epoch=0, tokens=8, seconds=0.5, tokens_per_s=16.0
        )

    with bar:
        start = Started(
            step=0,
            steps=1000,
            parameters=1,
            n_vocab=4,
            train_examples=8,
            val_examples=8,
            device="cpu",
            threads=1,
            resumed=False,
        )
        assert "ETA –" in shown(start)
        assert "ETA 8:15" in shown(done(10))
        paused = shown(Paused(step=10))
        assert "paused" in paused and "ETA" not in paused
        assert "ETA 8:15" in shown(Resumed(step=10)), "however long the pause was"
        assert "ETA 8:10" in shown(done(20))
        shown(Changed(step=20, key="train.steps", old=1000, new=140))
        assert "ETA 1:00" in shown(done(20))


def test_bar_of_a_resumed_run_has_its_val_loss_and_leaves_room_for_an_echo() -> None:
    out = io.StringIO()
    bar = Bar(Console(file=out, force_terminal=True, color_system=None, width=120), val_loss=1.538)
    with bar:
        bar._progress.refresh()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", out.getvalue()).strip().split("\r")
    assert "val 1.5380" in lines[0] and {len(line) for line in lines} == {116}
