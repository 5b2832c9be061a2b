"""What the process of a watched script does before and after the script: it begins and ends the recording."""

import contextlib
import os
import shlex
import sys
from io import TextIOWrapper
from pathlib import Path

from tui_lab.cli.output import say
from tui_lab.core import events as ev
from tui_lab.core.runs.before_nonfinite import read_before
from tui_lab.core.runs.run_files import OUTPUT
from tui_lab.core.watch.process.ending import EndedBySignal
from tui_lab.core.watch.process.exit_code import ExitCode
from tui_lab.core.watch.process.output_log import OutputLog
from tui_lab.core.watch.process.script_process import Target, at_end, end_quietly_when_stopped, forget_own_modules
from tui_lab.core.watch.process.script_recording import ScriptRecording
from tui_lab.core.watch.process.terminating_signals import TerminatingSignals
from tui_lab.runs.nonfinite_text import before_lines, origin_lines, origin_summary
from tui_lab.util.errors import LabError
from tui_lab.util.exit_codes import BAD_USAGE
from tui_lab.util.files import advice
from tui_lab.util.plural import counted


def begin(
    loaded_before: set[str],
    script: str,
    arguments: list[str],
    is_module: bool,
    out: str | None,
    in_background: bool,
    last_step: int = 0,
) -> ScriptRecording | None:
    """Begin to record this process, which is going to run the script. Python calls it through `startup`.

    last_step: the step after which the script is stopped; 0: none. Returns the recording, if there is one.
    Where it is not possible to record, a bad --out ends the process; anything else is a message, and the script runs.
    """
    target = Target(script, tuple(arguments), is_module)
    recording = None
    try:
        recording = _start(target, out)
        recording.last_step = last_step
        if not in_background:  # There, the app shows the event, and the lines would be in its log once more.
            recording.on_non_finite = _say_non_finite
        shown_folder = _relative(recording.run.path)
        if not in_background:
            _say(f"recording into {shown_folder}; follow it with: tui-lab app {shlex.quote(shown_folder)}")
        output = _copy_output(recording.run.path, in_background=in_background)
        _watch_for_end(recording, output, "" if in_background else shown_folder)
    except LabError as error:
        for line in str(error).splitlines():
            _say(f"tui-lab: {line}")
        os._exit(BAD_USAGE)  # An exception here would not end Python.
    except Exception as error:
        _say(f"tui-lab: the script is not recorded: {type(error).__name__}: {error}")
    forget_own_modules(loaded_before, target.first_folder())
    return recording


def _watch_for_end(recording: ScriptRecording, output: OutputLog | None, shown_folder: str) -> None:
    """End the recording when the script ends, however it does."""
    end_quietly_when_stopped()
    exit_code = ExitCode()
    exit_code.watch()

    def end(error: BaseException | None) -> None:
        _end(recording, output, error or exit_code.exception(), shown_folder)

    at_end(end)
    signals = TerminatingSignals(lambda number: end(EndedBySignal(number)), lambda: recording.is_busy)
    signals.handle()
    recording.on_begin = signals.watch


def _start(target: Target, out: str | None) -> ScriptRecording:
    arguments = sys.argv
    # The lock's file says which command holds it.
    sys.argv = ["tui-lab", "watch", *target.python_arguments]
    try:
        folder = None if out is None else Path(out)
        return ScriptRecording(
            target.name, target.python_arguments, folder, lambda problem: _say(f"tui-lab: {problem}")
        )
    finally:
        sys.argv = arguments


def _copy_output(folder: Path, *, in_background: bool) -> OutputLog | None:
    """Copy what the script prints to output.log."""
    if in_background and isinstance(sys.stdout, TextIOWrapper):
        # As on the terminal from which it was started; in a file, a line would be seen when 8 KiB have been printed.
        sys.stdout.reconfigure(line_buffering=True)
    try:
        output = OutputLog(folder / OUTPUT)
    except OSError as error:
        _say(f"tui-lab: the output is not recorded: {advice(error)}")
        return None
    output.attach()
    return output


def _end(recording: ScriptRecording, output: OutputLog | None, error: BaseException | None, shown_folder: str) -> None:
    """End the recording and say what was recorded; where all is well, only with a `shown_folder`."""
    if output is not None:
        output.end()
    try:
        recording.end(error)
    except Exception as failure:
        _say(f"tui-lab: the end of the run is not recorded: {type(failure).__name__}: {failure}")
        return
    if recording.problem:
        _say(f"tui-lab: {recording.problem}")
    elif shown_folder:
        steps = counted(recording.n_steps, "step")
        _say(f"recorded {steps} in {shown_folder}")
        if (event := recording.non_finite) is not None:
            _say(f"step {event.failed_step:,}: {origin_summary(event.origin)}")
            for line in before_lines(read_before(recording.run, event)):
                _say(line)


def _say_non_finite(event: ev.NonFinite) -> None:
    _say(f"tui-lab: the {event.origin.quantity} of step {event.failed_step:,} is not finite")
    for line in origin_lines(event.origin):
        _say(f"tui-lab: {line}")


def _say(text: str) -> None:
    """Write a line to the stderr that Python began with: the script may have closed or replaced its own."""
    with contextlib.suppress(OSError, ValueError, AttributeError), contextlib.redirect_stderr(sys.__stderr__):
        say(text)


def _relative(path: Path) -> str:
    """`path` as seen from the current folder, if it is in there."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
