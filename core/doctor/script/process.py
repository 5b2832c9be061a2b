"""Run a script in a child process that examines it, and read its report."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tui_lab.core.config.schema import Config
from tui_lab.core.config.script import RunConfig
from tui_lab.core.doctor.diagnose import (
    Command,
    Interrupted,
    OnCheck,
    examine_config_in_child,
    last_value,
    run_child,
)
from tui_lab.core.doctor.findings import SO_FAR, Report, report_from_json
from tui_lab.core.watch.process.recorded_script import recorded_script
from tui_lab.core.watch.process.script_end import why_no_update
from tui_lab.core.watch.process.script_process import Target
from tui_lab.core.watch.process.tried_script import tried_environment
from tui_lab.util.errors import ConfigError

UPDATES = 50
MAX_UPDATES = 250
"""For a script that is fast enough: see examination.SECONDS_FOR_MORE."""
SECONDS = 20.0
TIMEOUT = 300.0
_BEGIN = "tui_lab.core.doctor.script.child"
MAX_CANDIDATES = 8
BEFORE_UPDATES = ("starting", "running the script")
"""The stages before the first update."""
BY_HAND = "calls backward(), but the weights never change: no optimizer step and no manual update"


@dataclass(frozen=True)
class Limits:
    """How long a script trains.

    updates: after which it is examined; None: UPDATES, or up to MAX_UPDATES if they are fast. seconds: the same, since
    its first update. timeout: seconds for everything, by default TIMEOUT.
    """

    updates: int | None = None
    seconds: float = SECONDS
    timeout: float | None = None


def examine_run(config: RunConfig, on_check: OnCheck) -> Report:
    """Diagnose a config, or the script of a recorded run in its folder, in a child process.

    Raises ConfigError, DataError or RunError.
    """
    if isinstance(config, Config):
        return examine_config_in_child(config, on_check)
    script = recorded_script(config)
    return examine_script(
        script.target, Limits(), on_check, folder=script.folder, variables=script.variables, quiet=True
    )


def examine_script(
    target: Target,
    limits: Limits,
    on_check: OnCheck,
    *,
    folder: str | None = None,
    variables: Mapping[str, str] | None = None,
    quiet: bool = False,
) -> Report:
    """Run a script for some updates and diagnose what it does.

    folder: the current folder of the script; None: ours. variables: further ones of its environment. Its output goes to
    our stderr, or nowhere if `quiet`.
    Raises ConfigError if the script cannot be examined: it fails, makes no step, or does not end in time, and
    Interrupted for a KeyboardInterrupt.
    """
    if folder is not None and not os.path.isdir(folder):
        raise ConfigError.of("not_found", "the script's folder does not exist", value=folder)
    limits = replace(limits, timeout=limits.timeout or TIMEOUT)
    with tempfile.TemporaryDirectory() as lines_folder:
        out = Path(lines_folder) / "report.jsonl"
        out.touch()
        command = _command(target, limits, out, folder)
        command.environment.update(variables or {})
        try:
            code = run_child(command, out, limits.timeout or TIMEOUT, on_check, quiet=quiet)
        except KeyboardInterrupt as interrupt:
            so_far = _so_far(out, "the examination was interrupted")
            raise Interrupted(so_far, last_value(out, "check") or "starting") from interrupt
        if code is None and (so_far := _so_far(out, _over_time(limits))) is not None:
            return so_far
        report = last_value(out, "report")
        if report is None:
            raise _problem(target, limits, code, out)
        error = last_value(out, "error")
    result = report_from_json(report)
    if error and not result.findings and not result.crashed:
        raise ConfigError.of("user_code", str(error), value=target.script)
    return result


def _so_far(out: Path, reason: str) -> Report | None:
    """Return the report after the last check that was run to its end; None before the first one."""
    record = last_value(out, SO_FAR)
    return None if record is None else replace(report_from_json(record), interrupted=reason)


def _over_time(limits: Limits) -> str:
    return f"did not finish within {limits.timeout:g} s"


def _command(target: Target, limits: Limits, out: Path, folder: str | None) -> Command:
    settings: dict[str, Any] = {
        "script": target.script,
        "folder": target.first_folder(folder),
        "out": str(out),
        "updates": limits.updates or UPDATES,
        "max_updates": limits.updates or MAX_UPDATES,
        "seconds": limits.seconds,
        "timeout": limits.timeout,
    }
    return Command(target.command_line, tried_environment(settings, _BEGIN), folder)


def _problem(target: Target, limits: Limits, code: int | None, out: Path) -> ConfigError:
    """Return why there is no report."""
    stage = last_value(out, "check") or "starting"
    if code is None:
        limit = f"{_over_time(limits)} (last stage: {stage}); --timeout SECONDS sets the limit"
        return ConfigError.of("user_code", limit, value=target.script)
    no_steps = last_value(out, "no_steps")
    why = why_no_update(target, "doctor", code, no_steps)
    if no_steps is None:
        why = f"its process ended early (last stage: {stage}): {why}" if stage not in BEFORE_UPDATES else why
    elif code == 0 and not no_steps["error"]:
        why = BY_HAND if no_steps["by_hand"] else _next_step(target, why, no_steps["candidates"])
    return ConfigError.of("user_code", why, value=target.script)


def _next_step(target: Target, message: str, candidates: list[str]) -> str:
    """Say what to do with a script that does not train, after `message`."""
    if target.is_module:
        return f"{message}; name the module that trains"
    message += f"; to examine a model in it: tui-lab doctor {target.script}:NAME"
    if candidates:
        return f"{message}, with NAME one of: {', '.join(candidates[:MAX_CANDIDATES])}"
    return f"{message}, where NAME is a model, or a function that returns one: def model(): return MyModel(...)"
