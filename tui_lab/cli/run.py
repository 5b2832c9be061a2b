"""`tui-lab run`: train without the app, and show, record and judge the run."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from tui_lab.cli.junit import run_cases
from tui_lab.cli.junit import write as write_junit
from tui_lab.cli.output import say, stdout, write, write_json
from tui_lab.cli.progress import Bar, Lines, Silent, View
from tui_lab.cli.signals import Interruption, going_on_unread, stop_on_signals
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.monitors import Monitors
from tui_lab.core.runs import control
from tui_lab.core.runs.before_nonfinite import read_before
from tui_lab.core.runs.explain import largest
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.open_run import OpenRun
from tui_lab.core.runs.spikes import read_spikes
from tui_lab.core.runs.summary import Requirement, Summarizer, Summary, unmet
from tui_lab.runs.nonfinite_text import before_lines, origin_lines
from tui_lab.runs.numbers import short_number
from tui_lab.runs.summary_text import replaced_characters, summary_text
from tui_lab.util.errors import RunError
from tui_lab.util.exit_codes import DONE, FAILED, NOT_MET
from tui_lab.util.files import advice


def train(
    opened: OpenRun,
    requirements: Sequence[Requirement],
    *,
    json_lines: bool,
    quiet: bool,
    junit: Path | None = None,
) -> int:
    """Train to the end and return the exit code.

    Shows the events, writes the summary and, if `junit` is given, a JUnit file with the requirements.
    """
    try:
        silent = json_lines or quiet
        view = Silent() if silent else _view(opened.summarizer, opened.trainer.config)
        if not silent:
            _say_before(opened)
        step_before = opened.summarizer.step
        save_error, interruption = _consume_events(opened, view, json_lines=json_lines)
        summary = opened.summarizer.summary(str(opened.run.path))
        save_error = save_error or _write_summary(opened.run, summary)
        with going_on_unread():
            if json_lines:
                write_json(summary.to_json() | {"unmet": unmet(requirements, summary)})
            else:
                _show_summary(opened, summary, step_before)
        if junit is not None:
            ending = opened.summarizer.ending
            failure = ending.message if isinstance(ending, ev.Failed) else save_error
            write_junit(junit, f"run {opened.run.name}", run_cases(requirements, summary, failure))
        with going_on_unread():
            _say_end(opened, requirements, summary, save_error, silent=silent)
        if save_error is not None:
            return FAILED
        return _exit_code(opened, requirements, summary, interruption)
    finally:
        opened.close()


def _say_before(opened: OpenRun) -> None:
    """Say what else the user should know before the first step."""
    warning = replaced_characters(opened.trainer.task)
    if warning is not None:
        say(warning)
    if opened.trainer.config.train.compile:
        say("compiling the model: the first steps take up to a minute")


def _consume_events(opened: OpenRun, view: View, *, json_lines: bool) -> tuple[str | None, Interruption]:
    """Train until the last event. If a checkpoint cannot be written, stop and return why."""
    trainer = opened.trainer
    monitors = Monitors(trainer.config)
    save_error: str | None = None
    with (
        stop_on_signals(lambda: trainer.commands.put(cmd.Stop())) as interruption,
        control.listen(opened.run.path, trainer.commands.put),
        view,
    ):
        for event in opened.run.record(trainer.events()):
            opened.summarizer.update(event)
            if isinstance(event, ev.SaveFailed) and save_error is None:
                save_error = event.message
                trainer.commands.put(cmd.Stop())
            shown = [event]
            for finding in monitors.update(event):
                message = f"{finding.title} {finding.evidence}. {finding.fix}"
                shown.append(ev.Warned(step=event.step, message=message))
            # A closed terminal is followed by SIGHUP, unless it is ignored; without the reader of a pipe, it trains on.
            with going_on_unread():
                if json_lines:
                    write_json(event.to_json())
                for each in shown:
                    view.show(each)
    return save_error, interruption


def _show_summary(opened: OpenRun, summary: Summary, step_before: ev.StepDone | None) -> None:
    """Print the summary. step_before: the last step of a run to resume."""
    write(summary_text(summary))
    stdout().flush()
    _say_spikes(opened.run)
    if step_before is not None and opened.summarizer.step is step_before and summary.reason == "done":
        say(f"nothing was trained: all {summary.steps:,} steps are done; --steps N continues")


def _say_spikes(run: Run) -> None:
    """Say where the loss jumped, which is easy to miss in the lines of a long run."""
    try:
        spikes = read_spikes(run)
    except (RunError, OSError):
        return
    spike = largest(spikes)
    if spike is not None:
        count = "a spike" if len(spikes) == 1 else f"{len(spikes):,} spikes, the largest"
        numbers = f"{short_number(spike.loss)}, {short_number(spike.expected)} was expected"
        say(f"the train loss had {count} at step {spike.step:,} ({numbers}); its rows: tui-lab explain {run.path}")


def _write_summary(run: Run, summary: Summary) -> str | None:
    """Write the summary; return why it could not be written, or None."""
    try:
        run.write_summary(summary)
    except OSError as error:
        return f"the summary cannot be written: {advice(error)}"
    return None


def _say_end(
    opened: OpenRun, requirements: Sequence[Requirement], summary: Summary, save_error: str | None, *, silent: bool
) -> None:
    """Say how the run ended and which requirements it meets."""
    ending = opened.summarizer.ending
    if save_error is not None:
        say(f"stopped: {save_error}; then resume with: tui-lab run --resume {opened.run.path}")
    elif isinstance(ending, ev.Failed):
        say(f"training failed: {ending.message}")
        if (non_finite := opened.summarizer.non_finite) is not None:
            say("\n".join([*origin_lines(non_finite.origin), *before_lines(read_before(opened.run, non_finite))]))
    elif opened.summarizer.reason == "stopped":
        made = "stopped and saved" if summary.steps else "stopped before the first step"
        say(f"{made}; resume with: tui-lab run --resume {opened.run.path}")
    else:
        if not silent:
            for requirement in requirements:
                if requirement.met(summary):
                    say(f"✓ {requirement.measured(summary)}")
        for message in unmet(requirements, summary):
            say(f"✗ {message}")


def _exit_code(
    opened: OpenRun, requirements: Sequence[Requirement], summary: Summary, interruption: Interruption
) -> int:
    """Return the exit code of a run that could be saved."""
    if isinstance(opened.summarizer.ending, ev.Failed):
        return FAILED
    if opened.summarizer.reason == "stopped":  # By a signal to this process or to another rank.
        return interruption.exit_code
    return NOT_MET if unmet(requirements, summary) else DONE


def _view(earlier: Summarizer, config: Config) -> View:
    """Return what shows the events. earlier: has seen those of a run to resume."""
    console = Console(stderr=True)
    val_loss = None if earlier.evaluated is None else earlier.evaluated.val_loss
    return Bar(console, val_loss, config) if console.is_terminal else Lines(say)
