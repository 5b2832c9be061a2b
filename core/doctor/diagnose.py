"""Diagnose a preset, a config, a run or user code; user code always runs in a child process."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Report, report_from_json
from tui_lab.core.user_code.import_file import is_user_code
from tui_lab.util.child import ONE_THREAD, child_environment, kill_group, python_module
from tui_lab.util.errors import ConfigError, Problem, RunError


class Interrupted(KeyboardInterrupt):
    """An examination was interrupted. report: so far; None before the first check. doing: what was done last."""

    def __init__(self, report: Report | None, doing: str) -> None:
        super().__init__(doing)
        self.report = report
        self.doing = doing


OnCheck = Callable[[str], None]
"""Called with the name of each check before it runs."""
NAME_SECONDS = 60.0
"""The time limit for FILE.py:NAME."""
CONFIG_SECONDS = 300.0
"""The time limit for a config in a child process."""
POLL_SECONDS = 0.2


def _ignore(check: str) -> None:
    pass


def examine_source(source: str, overrides: Sequence[str], timeout: float, on_check: OnCheck = _ignore) -> Report:
    """Diagnose a preset, config, run or FILE.py:NAME. Raises ConfigError, DataError or RunError."""
    if is_user_code(source):
        if overrides:
            raise ConfigError.of("conflict", "needs a preset or config: FILE.py:NAME has no settings", key="--set")
        return examine_in_child(source, timeout, on_check)
    config, weights = open_training(source, overrides)
    return examine_config(config, weights, on_check)


def open_training(source: str, overrides: Sequence[str]) -> tuple[Config, Any]:
    """Return the config of a preset or file with None, or the config of a run with its last weights."""
    from tui_lab.core.runs import folder as runs

    if source not in settings.presets() and not settings.is_file(Path(source)):
        try:
            run = runs.find(source)
        except RunError:
            settings.load(source)  # Raises an error that lists the presets.
            raise
        from tui_lab.core.training import checkpoint as ckpt

        run.refuse_script("to diagnose the model, use: tui-lab doctor FILE.py:NAME")
        path = run.latest()
        config = ckpt.load_progress(path).config
        return settings.build(config.model_dump(), overrides), ckpt.load_weights(path / "model.safetensors")
    return settings.load(source, overrides), None


def examine_config(config: Config, weights: Any, on_check: OnCheck) -> Report:
    """Diagnose a target in this process. Raises ConfigError, DataError or RunError."""
    from tui_lab.core.doctor.program.from_config import target_from_config
    from tui_lab.core.doctor.runner import examine

    on_check("data")
    return examine(target_from_config(config, weights=weights), on_check=on_check)


def examine_config_in_child(config: Config, on_check: OnCheck) -> Report:
    """Diagnose a config in a child process, so that the app keeps drawing and training."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(settings.to_toml(config), "utf-8")
        return examine_in_child(str(file), CONFIG_SECONDS, on_check, quiet=True)


def examine_in_child(source: str, timeout: float, on_check: OnCheck = _ignore, *, quiet: bool = False) -> Report:
    """Diagnose a config or FILE.py:NAME in a child process, which is killed after `timeout` seconds.

    Its output goes to our stderr, or nowhere if `quiet`. Raises ConfigError if the file cannot be diagnosed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.jsonl"
        out.touch()
        command = Command(python_module("tui_lab.core.doctor.worker", source, str(out)), child_environment())
        code = run_child(command, out, timeout, on_check, quiet=quiet)
        if (problems := last_value(out, "problems")) is not None:
            raise ConfigError([Problem.from_json(problem) for problem in problems])
        stage = last_value(out, "check") or "starting"
        if code is None:
            message = f"did not finish within {timeout:g} s (last stage: {stage}); --timeout SECONDS sets the limit"
            if stage == "importing the file":
                script = source.rpartition(":")[0]
                message += f"; if the file trains when it is imported, run `tui-lab doctor {script}`"
            raise ConfigError.of("user_code", message, value=source)
        report = last_value(out, "report")
        if report is None:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ConfigError.of("user_code", f"its process ended with {how} (last stage: {stage})", value=source)
        return report_from_json(report)


@dataclass(frozen=True)
class Command:
    """How to start a child process. arguments: the program and its arguments. folder: its current one; None: ours."""

    arguments: Sequence[str]
    environment: dict[str, str]
    folder: str | None = None


def run_child(command: Command, out: Path, timeout: float, on_check: OnCheck, *, quiet: bool) -> int | None:
    """Run a child that writes JSON lines to `out`; return its exit code, or None after a timeout. `on_check` may raise.

    Its output goes to our stderr, or nowhere if `quiet`.
    """
    output = subprocess.DEVNULL if quiet else None
    child = subprocess.Popen(
        command.arguments,
        cwd=command.folder,
        stdin=subprocess.DEVNULL,
        stdout=output or sys.__stderr__,
        stderr=output,
        start_new_session=True,  # So that the processes it starts are killed with it.
        env=command.environment | (ONE_THREAD if quiet else {}),
    )
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            try:
                return child.wait(min(POLL_SECONDS, max(0.0, deadline - time.monotonic())))
            except subprocess.TimeoutExpired:
                on_check(last_value(out, "check") or "starting")
        return None
    finally:
        kill_group(child)
        child.wait()


def last_value(out: Path, key: str) -> Any:
    """Return the last value of `key` among the lines, or None."""
    for line in reversed(out.read_text("utf-8").splitlines()):
        try:
            record = json.loads(line)
        except ValueError:  # The process was killed while it wrote this line.
            continue
        if key in record:
            return record[key]
    return None
