"""`tui-lab run`: consume the trainer's events without an app."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from core import checkpoint as ckpt
from core import commands as cmd
from core import events as ev
from core import runs, settings
from core.errors import ConfigError
from core.jsontext import dumps
from core.runs import Run
from core.summary import Requirement, Summariser, summarise, unmet
from core.tasks import build_loader, build_task
from core.trainer import Trainer
from data.corpora.tokens import Progress
from tui_lab.describe import describe
from tui_lab.progress import Bar, Lines, Silent, View, encoding_bar

DONE, NOT_MET, FAILED, INTERRUPTED = 0, 1, 3, 130


@dataclass(frozen=True)
class Session:
    run: Run
    trainer: Trainer
    seen: Summariser
    """Has watched what the run did before, if anything."""


def progress(silent: bool) -> Progress | None:
    """A bar on stderr for the encoding of a corpus, where somebody is watching."""
    return encoding_bar() if sys.stderr.isatty() and not silent else None


def start(source: str, overrides: Sequence[str], out: Path | None, progress: Progress | None = None) -> Session:
    """A new run. Raises ConfigError, DataError or RunError before anything is written for a bad config."""
    config = settings.load(source, overrides)
    task = build_task(config, progress)
    build_loader(config, task)
    # The run folder outlives the shell that named the corpus by a relative path.
    if config.data.task == "text" and config.data.path != "bundled":
        config = settings.changed(config, "data.path", str(Path(config.data.path).expanduser().absolute()))
    trainer = Trainer(config, task)
    run = runs.create(source, config, task.tokenizer, out)
    trainer.save_with(run.save)
    return Session(run, trainer, Summariser())


def reopen(name: str, steps: int | None, progress: Progress | None = None) -> Session:
    """A run that goes on from its last checkpoint, to another number of steps if given."""
    run = runs.find(name)
    checkpoint = ckpt.load(run.latest())
    if steps is not None:
        config = settings.changed(checkpoint.progress.config, "train.steps", steps)
        if steps < checkpoint.progress.step:
            raise ConfigError([f"--steps {steps}: this run has made {checkpoint.progress.step} steps already"])
        checkpoint = replace(checkpoint, progress=replace(checkpoint.progress, config=config))
    task = build_task(checkpoint.progress.config, progress)
    trainer = Trainer(checkpoint.progress.config, task, resume=checkpoint, save=run.save)
    run.rewind(checkpoint.progress.step)
    return Session(run, trainer, summarise(run.events()))


def train(session: Session, requirements: Sequence[Requirement], *, json_lines: bool, quiet: bool) -> int:
    """Train to the end, show it, write the summary; the exit code."""
    seen, run = session.seen, session.run
    view = _view(session, json_lines=json_lines, quiet=quiet)
    with _stop_on_signals(session.trainer) as interrupted, view:
        for event in run.record(session.trainer.events()):
            seen.watch(event)
            if json_lines:
                _print_json(event.to_json())
            view.show(event)
    summary = seen.summary(str(run.path))
    failures = unmet(requirements, summary)
    run.write_summary(summary)
    if json_lines:
        _print_json(summary | {"unmet": failures})
    else:
        _print_result(summary)
    return _exit_code(seen, bool(interrupted), failures, run)


def _exit_code(seen: Summariser, interrupted: bool, failures: list[str], run: Run) -> int:
    if isinstance(seen.ending, ev.Failed):
        _say(f"training failed: {seen.ending.message}")
        return FAILED
    if interrupted and seen.ending is not None and seen.ending.reason == "asked":
        _say(f"interrupted and saved; go on with: tui-lab run --resume {run.path}")
        return INTERRUPTED
    for failure in failures:
        _say(failure)
    return NOT_MET if failures else DONE


def _view(session: Session, *, json_lines: bool, quiet: bool) -> View:
    if json_lines or quiet:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(_say)


@contextmanager
def _stop_on_signals(trainer: Trainer) -> Iterator[list[int]]:
    """SIGINT and SIGTERM ask the trainer to save and stop; a second one ends the program at once."""
    received: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        trainer.commands.put(cmd.Stop())

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_json(record: dict[str, Any]) -> None:
    sys.stdout.write(dumps(record) + "\n")
    sys.stdout.flush()


def _print_result(summary: dict[str, Any]) -> None:
    sys.stdout.write(describe(summary) + "\n")


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
