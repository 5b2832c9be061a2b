"""`tui-lab run`: consume the trainer's events without an app."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from tui_lab.cli.junit import of_run
from tui_lab.cli.junit import write as write_junit
from tui_lab.cli.output import stdout
from tui_lab.cli.progress import Bar, Lines, Silent, View
from tui_lab.cli.summary_text import describe, replaced
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.doctor.monitors import Watcher
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.open_run import Opened
from tui_lab.core.runs.summary import Requirement, Summarizer, Summary, unmet
from tui_lab.core.trainer import Trainer
from tui_lab.util.escape import printable
from tui_lab.util.exit_codes import DONE, FAILED, INTERRUPTED, NOT_MET
from tui_lab.util.files import advice
from tui_lab.util.strict_json import dumps


def train(
    opened: Opened,
    requirements: Sequence[Requirement],
    *,
    json_lines: bool,
    quiet: bool,
    junit: Path | None = None,
) -> int:
    """Train to the end, show it, write the summary, and the requirements as a JUnit file if asked; the exit code."""
    try:
        return _train(opened, requirements, json_lines, quiet, junit)
    finally:
        opened.close()


def _train(
    opened: Opened, requirements: Sequence[Requirement], json_lines: bool, quiet: bool, junit: Path | None
) -> int:
    seen, run = opened.seen, opened.run
    view = _view(opened, json_lines=json_lines, quiet=quiet)
    watcher = Watcher()
    unwritten: ev.SaveFailed | None = None
    if (words := replaced(opened.trainer.task)) and not (json_lines or quiet):
        say(words)
    with stop_on_signals(opened.trainer), view:
        for event in run.record(opened.trainer.events()):
            seen.update(event)
            if isinstance(event, ev.SaveFailed) and unwritten is None:
                unwritten = event
                opened.trainer.commands.put(cmd.Stop())
            if json_lines:
                _print_json(event.to_json())
            view.show(event)
            for finding in watcher.see(event):
                words = f"{finding.verdict} {finding.evidence}. {finding.fix}"
                view.show(ev.Warned(step=event.step, message=words))
    summary = seen.summary(str(run.path))
    failures = unmet(requirements, summary)
    trouble = _write_summary(run, summary) if unwritten is None else unwritten.message
    if json_lines:
        _print_json(summary.to_json() | {"unmet": failures})
    else:
        _print_result(summary)
    if junit is not None:
        failed = seen.ending.message if isinstance(seen.ending, ev.Failed) else None
        write_junit(junit, f"run {run.name}", of_run(requirements, summary, failed or trouble or None))
    if trouble:
        say(f"stopped, since {trouble}; then go on with: tui-lab run --resume {run.path}")
        return FAILED
    return _exit_code(seen, failures, run)


def _write_summary(run: Run, summary: Summary) -> str:
    """What stood in the way, if anything."""
    try:
        run.write_summary(summary)
    except OSError as error:
        return f"the summary cannot be written: {advice(error)}"
    return ""


def _exit_code(seen: Summarizer, failures: list[str], run: Run) -> int:
    if isinstance(seen.ending, ev.Failed):
        say(f"training failed: {seen.ending.message}")
        return FAILED
    if seen.reason == "stopped":  # By a signal, to this process or another rank.
        say(f"interrupted and saved; go on with: tui-lab run --resume {run.path}")
        return INTERRUPTED
    for failure in failures:
        say(failure)
    return NOT_MET if failures else DONE


def _view(opened: Opened, *, json_lines: bool, quiet: bool) -> View:
    if json_lines or quiet:
        return Silent()
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines(say)


@contextmanager
def stop_on_signals(trainer: Trainer) -> Iterator[None]:
    """SIGINT and SIGTERM ask the trainer to save and stop; a second one ends the program at once."""
    received: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        trainer.commands.put(cmd.Stop())

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _print_json(record: dict[str, Any]) -> None:
    stdout().write(dumps(record) + "\n")
    stdout().flush()


def _print_result(summary: Summary) -> None:
    stdout().write(printable(describe(summary)) + "\n")


def say(text: str) -> None:
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()
