"""`tui-lab doctor SCRIPT.py`: run a script and examine it, with the progress on stderr."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tui_lab.cli.check_progress import CheckProgress
from tui_lab.cli.output import say
from tui_lab.cli.script_argument import refuse_for_script, script_of, script_suggested
from tui_lab.cli.signals import interrupt_on_signals
from tui_lab.core.config import settings
from tui_lab.core.doctor.diagnose import NAME_SECONDS, OnCheck, examine_source
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.core.doctor.script.process import Limits, examine_script
from tui_lab.core.runs import folder as runs
from tui_lab.core.user_code.import_file import is_user_code
from tui_lab.core.watch.process.script_process import Target
from tui_lab.runs.recorded_finding import recorded_finding, with_recorded
from tui_lab.util.errors import ConfigError, LabError


def examine_any(
    source: str | None,
    arguments: Sequence[str],
    module: str | None,
    overrides: Sequence[str],
    limits: Limits,
    *,
    is_quiet: bool,
) -> tuple[str, Report]:
    """Examine what the command line names; return its name, too. Raises a LabError, and KeyboardInterrupt at a signal.

    is_quiet: whether it does not show which check runs.
    """
    script = script_of("doctor", source, arguments, module)
    with interrupt_on_signals(), CheckProgress(is_shown=not is_quiet) as progress:
        if script is None:
            return examine_other(source, overrides, limits.timeout, progress.show)
        return script.script, examine(script, overrides, limits, progress.show)


def examine(target: Target, overrides: Sequence[str], limits: Limits, on_check: OnCheck) -> Report:
    """Examine a script; say on stderr what is being done. Raises ConfigError, and Interrupted."""
    refuse_for_script({"--set": bool(overrides)})
    return examine_script(target, limits, _Progress(target, limits, on_check))


def examine_other(
    source: str | None, overrides: Sequence[str], timeout: float | None, on_check: OnCheck
) -> tuple[str, Report]:
    """Examine a preset, config, run or FILE.py:NAME; return its name, too. Raises a LabError.

    The first finding is what the record of a run says. With overrides it is about another run.
    """
    if source is None:
        raise ConfigError.of("missing", "name a PRESET, CONFIG, RUN, SCRIPT.py or FILE.py:NAME", key="doctor")
    finding = None if overrides else _recorded_finding(source)
    try:
        with script_suggested(source):
            report = examine_source(source, overrides, NAME_SECONDS if timeout is None else timeout, on_check)
        return source, report if finding is None else with_recorded(report, finding)
    except LabError as error:
        if finding is None:
            raise
        return source, with_recorded(Report(not_examined=(str(error),)), finding)


def _recorded_finding(source: str) -> Finding | None:
    """Return what the record of a run says; None for anything else."""
    if is_user_code(source) or source in settings.presets() or settings.is_file(Path(source)):
        return None
    with suppress(LabError):  # What is wrong with it, its examination says.
        return recorded_finding(runs.find(source))
    return None


BEFORE_CHECKS = ("starting", "running the script")


class _Progress:
    """Says the stages of an examination, each once, and passes the names of the checks on."""

    def __init__(self, target: Target, limits: Limits, on_check: OnCheck) -> None:
        self._on_check = on_check
        self._name = target.script
        self._stage = ""
        self._is_examining = False
        self._limits = limits

    def __call__(self, stage: str) -> None:
        if stage == self._stage:
            return
        is_first = not self._stage  # That may be a later stage: stages are polled, and a script may be quick.
        self._stage = stage
        if is_first:
            updates = "some updates" if self._limits.updates is None else f"{self._limits.updates} updates"
            say(f"doctor: running {self._name} for {updates}; it changes no existing file")
        if stage in BEFORE_CHECKS or stage.startswith("update "):
            return
        if not self._is_examining:
            say("")  # The script may have left a progress bar without a line end.
            say("doctor: examining what it did")
            self._is_examining = True
        if stage != "examining":
            self._on_check(stage)
