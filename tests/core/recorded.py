"""Run folders with made-up events, which take no training, so that a test can have many."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tests.core.tiny import tiny
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import ScriptConfig, ScriptModelConfig, ScriptOptimConfig, ScriptTrainConfig, Unit
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.summary import Summarizer, Summary, summarize
from tui_lab.data.tokenizers import DigitsTokenizer, IdTokenizer, TableTokenizer, Tokenizer
from tui_lab.util import files
from tui_lab.util.strict_json import dumps

STARTED = ev.Started(
    step=0,
    steps=8,
    parameters=1234,
    n_vocab=5,
    train_examples=9,
    val_examples=4,
    device="cpu",
    threads=1,
    resumed=False,
)


def summary(**fields: Any) -> Summary:
    """A summary of a run that did nothing, except for `fields`."""
    return Summarizer().summary("").model_copy(update={"reason": "done"} | fields)


def update(step: int, loss: float | None = None, **more: Any) -> ev.StepDone:
    """Step `step`, in half a second; its loss falls with the steps unless given. more: further fields."""
    value = 2.0 / step if loss is None else loss
    return ev.StepDone(
        step=step,
        loss=value,
        loss_ema=value,
        lr=0.01,
        grad_norm=1.0,
        epoch=0,
        tokens=20 * step,
        seconds=0.5,
        tokens_per_s=40.0,
        **more,
    )


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


def recorded(
    path: Path, events: Iterable[ev.Event] | None = None, *, config: Config | None = None, summary: bool = True
) -> Run:
    """A run folder in `path` with `events`, by default `story()`. summary: whether it has one."""
    run = runs.create("recorded", config or tiny(), DigitsTokenizer(5), path)
    summarizer = summarize(run.record(story() if events is None else events))
    if summary:
        run.write_summary(summarizer.summary(str(path)))
    return run


Ending = Literal["done", "stopped", "failed", "running"]
SCRIPT_STARTED = ev.Started(
    step=0,
    steps=0,
    parameters=4321,
    n_vocab=3,
    train_examples=0,
    val_examples=0,
    device="cpu",
    threads=1,
    resumed=False,
)
"""Of a script whose number of steps is not known."""
JUST_LAUNCHED = ScriptConfig(command=("train.py", "--batch_size=12"), folder="/home/user/project")
"""What is known of a script before its first optimizer step."""


def script_config(unit: Unit = "tokens", **captured: bool | int | float | str) -> ScriptConfig:
    """The config of a script that has made a step. captured: further settings of the script."""
    return JUST_LAUNCHED.model_copy(
        update={
            "model": ScriptModelConfig(name="GPT", dropout=0.1, context=8 if unit == "tokens" else None),
            "optim": ScriptOptimConfig(name="AdamW", lr=0.01, weight_decay=0.1, grad_clip=1.0),
            "train": ScriptTrainConfig(unit=unit),
            "settings": {"batch_size": 12, "learning_rate": 0.01, "compile": False, "out_dir": "out"} | captured,
        }
    )


def script_step(step: int) -> ev.StepDone:
    """Step `step` of a script; the gradient norm is measured at every second one."""
    loss = 2.0 / step
    return ev.StepDone(
        step=step,
        loss=loss,
        loss_ema=loss,
        lr=0.01,
        grad_norm=None if step % 2 else 1.0,
        epoch=0,
        tokens=96 * step,
        seconds=0.5,
        tokens_per_s=192.0,
        extra={"script_lr": 0.01, "lr/1": 0.001, "memory_mib": 300.5},
    )


def script_story(steps: int = 8, ending: Ending = "done", unit: Unit = "tokens") -> Iterator[ev.Event]:
    """Steps with logged values and an evaluation after every fourth, a change of the rate, and an end."""
    yield SCRIPT_STARTED if unit == "tokens" else replace(SCRIPT_STARTED, n_vocab=0)
    for step in range(1, steps + 1):
        yield script_step(step)
        if step % 4 == 0:
            yield evaluated(step, 1.0 / step, exact_match=None)
            yield ev.Logged(step=step, values={"accuracy": step / 8}, texts={"sample": f"After {step} steps:\n\tto be"})
    yield ev.Changed(step=steps, key="optim.lr_factor", old=1.0, new=2.0)
    if ending in ("done", "stopped"):
        yield ev.Stopped(step=steps, reason="done" if ending == "done" else "stopped")
    if ending == "failed":
        details = 'Traceback (most recent call last):\n  File "train.py", line 9, in <module>\nValueError: no more data'
        yield ev.Failed(step=steps, message="ValueError: no more data", details=details)


def recorded_script(
    path: Path,
    *,
    started: bool = True,
    ending: Ending = "done",
    unit: Unit = "tokens",
    config: ScriptConfig | None = None,
    events: Iterable[ev.Event] | None = None,
) -> Run:
    """A run folder in `path` as the recorder of a script leaves it, by default with `script_story(ending=ending)`.

    started: whether the script made an optimizer step. Where it did not, an ending of "running" means that there is no
    event at all. A run whose ending is "running" has no summary; hold `run.lock()` to let it look alive.
    """
    run = runs.create("script", JUST_LAUNCHED, IdTokenizer(0), path)
    if started:
        tokenizer: Tokenizer = TableTokenizer([b"a", b"b", b"c"]) if unit == "tokens" else IdTokenizer(0)
        files.write_text(run.path / run_files.TOKENIZER, dumps(tokenizer.state()))
        files.write_text(run.path / run_files.CONFIG, runs.config_text(config or script_config(unit)))
    story = script_story(ending=ending, unit=unit) if events is None else events
    ended = (ev.Stopped, ev.Failed)
    summarizer = summarize(run.record(event for event in story if started or isinstance(event, ended)))
    if ending != "running":
        run.write_summary(summarizer.summary(str(path)))
    return run
