"""Diagnose a preset, a config, a run or a user's file; a user's file always runs in a child process."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import tui_lab
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.findings import Report, report_from_json
from tui_lab.core.user_code.import_file import is_stranger
from tui_lab.util.errors import ConfigError, RunError

Tell = Callable[[str], None]
APART_SECONDS = 300.0
WATCH_SECONDS = 0.2
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""For a child beside a training: threads of two processes that wait for each other on the same cores crawl."""


def examine_source(source: str, overrides: Sequence[str], timeout: float, tell: Tell = lambda name: None) -> Report:
    """The report on a preset, config, run or FILE.py:NAME. Raises ConfigError, DataError or RunError."""
    if is_stranger(source):
        if overrides:
            raise ConfigError(["--set goes with a preset or config; a stranger's file has no settings"])
        return examine_file(source, timeout, tell)
    config, weights = open_training(source, overrides)
    return examine_config(config, weights, tell)


def open_training(source: str, overrides: Sequence[str]) -> tuple[Config, Any]:
    """The config of a preset or file, without weights; of a run, with its last ones."""
    from tui_lab.core.runs import folder as runs

    if source not in settings.presets() and not settings.is_file(Path(source)):
        try:
            run = runs.find(source)
        except RunError:
            settings.load(source)  # Says what would be allowed.
            raise
        from tui_lab.core.training import checkpoint as ckpt

        path = run.latest()
        config = ckpt.load_progress(path).config
        return settings.build(config.model_dump(), overrides), ckpt.load_weights(path / "model.safetensors")
    return settings.load(source, overrides), None


def examine_config(config: Config, weights: Any, tell: Tell) -> Report:
    from tui_lab.core.doctor.from_config import lab_subject
    from tui_lab.core.doctor.runner import examine

    tell("data")
    return examine(lab_subject(config, weights=weights), watch=tell)


def examine_apart(config: Config, tell: Tell) -> Report:
    """A config examined in a process of its own, so that the app that asks keeps painting and training."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "config.toml"
        file.write_text(settings.to_toml(config), "utf-8")
        return examine_file(str(file), APART_SECONDS, tell, quiet=True)


def examine_file(source: str, timeout: float, tell: Tell = lambda name: None, *, quiet: bool = False) -> Report:
    """A config or FILE.py:NAME, in a child process that is ended after `timeout` seconds.

    What it prints goes to our stderr, or nowhere if `quiet`. Raises ConfigError for a file that is no use.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "report.jsonl"
        out.touch()
        code = _run_child(source, out, timeout, tell, quiet)
        if (problem := _last(out, "problem")) is not None:
            raise ConfigError(problem.splitlines())
        if code is None:
            raise ConfigError(
                [f"{source}: not done within {timeout:g} s (it was at: {_stage(out)}); "
                 "--timeout SECONDS gives it longer"]
            )  # fmt: skip
        found = _last(out, "report")
        if found is None:
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise ConfigError([f"{source}: its process ended by {how} (it was at: {_stage(out)})"])
        return report_from_json(found)


def _run_child(source: str, out: Path, timeout: float, tell: Tell, quiet: bool) -> int | None:
    """Run the examiner and tell what it is at, which may raise; its exit code, or None when its time was over."""
    paths = filter(None, [str(Path(tui_lab.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")])
    prints = subprocess.DEVNULL if quiet else None
    # In a session of its own, so that what the file starts ends with it.
    child = subprocess.Popen(
        [sys.executable, "-m", "tui_lab.core.doctor.worker", source, str(out)],
        stdin=subprocess.DEVNULL, stdout=prints or sys.__stderr__, stderr=prints, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **(ONE_THREAD if quiet else {})},
    )  # fmt: skip
    until = time.monotonic() + timeout
    try:
        while time.monotonic() < until:
            try:
                return child.wait(min(WATCH_SECONDS, max(0.0, until - time.monotonic())))
            except subprocess.TimeoutExpired:
                tell(_last(out, "check") or "beginning")
        return None
    finally:
        _end(child)


def _end(child: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()
    child.wait()


def _last(out: Path, key: str) -> Any:
    """The last value of `key` among the lines; None where there is none."""
    found = None
    for line in out.read_text("utf-8").splitlines():
        try:
            found = json.loads(line).get(key, found)
        except ValueError:  # Torn: the process was ended while it wrote.
            continue
    return found


def _stage(out: Path) -> str:
    """What the examiner was at; torch may take longer to import than it was given."""
    return str(_last(out, "check") or "starting")
