"""Run folders with made-up events, which take no training, so that a test can have many."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tests.core.tiny import tiny
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summarizer, Summary, summarize
from tui_lab.data.tokenizers import DigitsTokenizer

STARTED = ev.Started(step=0, steps=8, parameters=1234, n_vocab=5, train_examples=9, val_examples=4, device="cpu",
                     threads=1, resumed=False)  # fmt: skip


def summary(**fields: Any) -> Summary:
    """A summary of a run that did nothing, except for `fields`."""
    return Summarizer().summary("").model_copy(update={"reason": "done"} | fields)


def update(step: int, loss: float | None = None) -> ev.StepDone:
    """Step `step`, in half a second; its loss falls with the steps unless given."""
    value = 2.0 / step if loss is None else loss
    return ev.StepDone(step=step, loss=value, loss_ema=value, lr=0.01, grad_norm=1.0, epoch=0, tokens=20 * step,
                       seconds=0.5, tokens_per_s=40.0)  # fmt: skip


def evaluated(
    step: int, loss: float, *, best: bool = True, exact_match: float | None = 0.25, since_best: int = 0
) -> ev.Evaluated:
    return ev.Evaluated(
        step=step, val_loss=loss, exact_match=exact_match, perplexity=None, examples=8, best=best, since_best=since_best
    )


def story(steps: int = 8) -> Iterator[ev.Event]:
    """Steps with an evaluation after every fourth, of which the second is the best, and an end."""
    yield STARTED
    for step in range(1, steps + 1):
        yield update(step)
        if step % 4 == 0:
            yield evaluated(step, 1.0 if step == 8 else 1.5, best=step <= 8)
    yield ev.Saved(step=steps, path=f"checkpoints/step-{steps:09d}")
    yield ev.Stopped(step=steps, reason="done")


def recorded(path: Path, events: Iterable[ev.Event] | None = None, *, config: Config | None = None,
             summary: bool = True) -> Run:  # fmt: skip
    """A run folder in `path` with `events`, by default `story()`. summary: whether it has one."""
    run = runs.create("recorded", config or tiny(), DigitsTokenizer(5), path)
    summarizer = summarize(run.record(story() if events is None else events))
    if summary:
        run.write_summary(summarizer.summary(str(path)))
    return run
