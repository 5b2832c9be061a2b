"""Train one trial of a script: in a process of its own, recorded into the trial's run folder."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from tui_lab.core import events as ev
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.follow import LogFollower, Restarted
from tui_lab.core.runs.run_files import OUTPUT
from tui_lab.core.runs.summary import Summarizer, summarize_log
from tui_lab.core.runs.sweep.folder import Result, Sweep
from tui_lab.core.runs.sweep.script_trials import ScriptTrials
from tui_lab.core.runs.sweep.script_values import ScriptValues
from tui_lab.core.watch.process.script_process import Target, environment
from tui_lab.core.watch.process.unreplaced import read_unreplaced
from tui_lab.core.watch.unwritten.created_files import move_created_files
from tui_lab.sweep.stopper import Stopper
from tui_lab.sweep.trial_result import ReportMetric, failure_of, metric_at, result_of, summary_if_ended
from tui_lab.util.child import kill_tree

POLL_SECONDS = 0.2
SECONDS_TO_STOP = 60.0
"""Seconds that a script may take to end after it was asked to, before it is killed."""
TAIL_BYTES = 2**16
_BEGIN = "tui_lab.cli.watch_trial"
FOLDER_OF_FILES = "files"
"""In the run folder of a trial: copies of existing files that the script has changed, and files that it has made."""
_FRAME = " \t\r│╭╮╰╯─"
"""What rich draws around an error, as typer does."""
LIST_OF_FILES = ".made.jsonl"
LIST_OF_VALUES = ".unreplaced.json"
_OWN = ("tui-lab: ", "recorded ")
"""With which the lines begin that the recording prints."""


class ScriptTrial:
    """One trial. report: as for `train_trial`."""

    def __init__(self, sweep: Sweep, number: int, report: ReportMetric) -> None:
        assert sweep.plan.script is not None
        self._script: ScriptTrials = sweep.plan.script
        self._values = sweep.plan.points[number]
        self._metric = sweep.plan.metric
        self._folder = sweep.folder(number).absolute()
        self._report = report
        self._summarizer = Summarizer()
        self._is_pruned = False

    def train(self, stopper: Stopper) -> Result | None:
        """Run the script, and return the result; None if it was stopped before its end, so that it runs again.

        An exception is the result "failed", so that the sweep continues with the other trials.
        """
        try:
            if (summarizer := summary_if_ended(self._folder)) is not None:
                return self._result(summarizer, stopper)
            values = ScriptValues(self._script)
            if missing := values.missing:
                return Result("failed", message=f"the script no longer assigns {', '.join(missing)} as it did")
            shutil.rmtree(self._folder, ignore_errors=True)  # A script cannot continue where it was stopped.
            self._folder.mkdir(parents=True)
            try:
                code = self._run(values.replacements(self._script.assigned_for(self._values)), stopper)
            finally:
                self._move_files()
            return self._result(summarize_log(Run(self._folder).downsampled()), stopper, code)
        except Exception as error:
            return failure_of(error)

    def _run(self, replacements: list[dict[str, str]], stopper: Stopper) -> int:
        """Run the process to its end and return its exit code. It has ended after an error, too."""
        with (self._folder / OUTPUT).open("ab") as output:
            child = subprocess.Popen(
                self._target().command_line,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self._script.folder,
                env=environment(self._settings(replacements), _BEGIN, self._variables()),
            )
        try:
            with stopper.attached(child.terminate):
                self._wait(child, stopper)
        finally:
            kill_tree(child)
        return child.returncode

    def _wait(self, child: "subprocess.Popen[bytes]", stopper: Stopper) -> None:
        """Return when the process has ended, or has not ended in time after it was asked to."""
        follower = LogFollower(Run(self._folder).log.path)
        deadline = float("inf")
        while time.monotonic() <= deadline:
            try:
                child.wait(POLL_SECONDS)
                return
            except subprocess.TimeoutExpired:
                pass
            if self._is_to_be_pruned(follower):
                child.terminate()
            if (stopper.requested or self._is_pruned) and deadline == float("inf"):
                deadline = time.monotonic() + SECONDS_TO_STOP

    def _move_files(self) -> None:
        """Move the files that the script has made while it trained out of the way of the next trial."""
        files = self._folder / FOLDER_OF_FILES
        move_created_files(self._folder / LIST_OF_FILES, Path(self._script.folder).resolve(), files)

    def _target(self) -> Target:
        script = self._script
        return Target(script.script, script.arguments_for(self._values, str(self._folder)), script.is_module)

    def _settings(self, replacements: list[dict[str, str]]) -> dict[str, object]:
        """Return the keyword arguments of `begin` in the process."""
        target = self._target()
        watch = {
            "script": target.script,
            "arguments": target.arguments,
            "is_module": target.is_module,
            "out": str(self._folder),
            "in_background": True,
            "last_step": self._script.steps,
        }
        return {
            "watch": watch,
            "seed": self._script.seed_for(self._values),
            "values": replacements,
            "files": str(self._folder / FOLDER_OF_FILES),
            "list_path": str(self._folder / LIST_OF_FILES),
            "unreplaced_path": str(self._folder / LIST_OF_VALUES),
            "parent": os.getpid(),
        }

    def _variables(self) -> Mapping[str, str]:
        """Return the environment of the process: that of the user."""
        variables = dict(os.environ)
        variables.pop("PYTHONPATH", None)
        if self._script.python_path is not None:
            variables["PYTHONPATH"] = self._script.python_path
        if self._script.threads:
            variables.setdefault("OMP_NUM_THREADS", str(self._script.threads))
        return variables

    def _is_to_be_pruned(self, follower: LogFollower) -> bool:
        """Report the evaluations since the last call; return whether the trial is to be stopped early now."""
        if self._is_pruned:
            return False
        events = follower.poll()
        for event in () if isinstance(events, Restarted) else events:
            self._summarizer.update(event)
            if isinstance(event, ev.Evaluated):
                value = metric_at(event, self._summarizer, self._metric)
                self._is_pruned = self._is_pruned or (value is not None and self._report(event.step, value))
        return self._is_pruned

    def _result(self, summarizer: Summarizer, stopper: Stopper, code: int | None = None) -> Result | None:
        is_stopped = summarizer.reason in ("stopped", "interrupted")
        if is_stopped and stopper.requested and not self._is_pruned:
            return None
        result = result_of(summarizer, self._folder, self._metric, pruned=self._is_pruned and is_stopped)
        if result is not None and result.state != "failed" and summarizer.step is not None:
            if left := read_unreplaced(self._folder / LIST_OF_VALUES):
                verb = "was" if len(left) == 1 else "were"
                message = f"{', '.join(left)} {verb} not replaced: the line did not run, or it had another value"
                return Result("failed", message=message, summary=result.summary)
            return result
        message = summarizer.message or (result.message if result else "")
        if result is None or not message:
            message = "the script was stopped" if code is None else f"the script ended with exit code {code}"
        last = _last_line(self._folder / OUTPUT)
        message = f"{message}; it printed last: {last}" if last and last not in message else message
        return Result("failed", message=message, summary=result.summary if result else None)


def _last_line(path: Path) -> str:
    """Return the last line that a script printed itself, or ""."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - TAIL_BYTES))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    own = (line.strip(_FRAME) for line in reversed(lines) if not line.startswith(_OWN))
    return next((line for line in own if line), "")
