"""Whole programs on the device: a script as it is and watched, and the doctor on scripts and on our own trainer."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from tools.device import gpu_loop
from tools.device.setting import Row, Setting, at_most, is_true
from tui_lab.core import events as ev
from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config
from tui_lab.core.doctor.diagnose import examine_config
from tui_lab.core.runs.folder import Run
from tui_lab.util.child import child_environment, python_module

Process = subprocess.Popen[str]


def start(command: list[str]) -> Process:
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=child_environment())


def output_of(process: Process, *, may_fail: bool = False) -> str:
    """Wait for a process and return its stdout. Raises RuntimeError with its last line if it failed."""
    output, errors = process.communicate()
    if process.returncode and not may_fail:
        raise RuntimeError(f"exit code {process.returncode}: {(errors.strip().splitlines() or ['no output'])[-1]}")
    return output


def _script(setting: Setting, steps: int, *options: str) -> list[str]:
    return [str(gpu_loop.__file__), str(steps), *options, *(["--tiny"] if setting.dry_run else [])]


def watch(setting: Setting) -> Iterator[Row]:
    """The same weights with and without `tui-lab watch`, and the losses that the script prints are those recorded."""
    script = _script(setting, setting.choose(40, 2))
    out = setting.folder / "watched"
    # At the same time: each is a small load, and most of their time is Python starting.
    plain = [start([sys.executable, *script]) for _ in range(setting.choose(2, 1))]
    watched_process = start(python_module("tui_lab", "watch", "--headless", "--out", str(out), *script))
    outputs = [output_of(process).split() for process in plain]
    *losses, weights = outputs[0]
    *_, watched = output_of(watched_process).split()
    if len(outputs) > 1:
        yield is_true("the script alone repeats its weights", outputs[1][-1] == weights)
    yield is_true("the same weights watched", watched == weights)
    steps = [event for event in Run(out).events() if isinstance(event, ev.StepDone)]
    # Skipped steps are printed but not recorded, and they come first: the loss scale begins too large.
    printed = [float(loss) for loss in losses][len(losses) - len(steps) :]
    yield is_true("all steps recorded", 0 < len(steps) <= len(losses), steps=len(steps), printed=len(losses))
    worst = max(abs(a - step.loss) for a, step in zip(printed, steps, strict=True))
    yield at_most("recorded losses", worst, 1e-5)


def doctor(setting: Setting) -> Iterator[Row]:
    """Nothing is found in a right script and in a right config; a mistake in each is found."""
    scripts: dict[str, tuple[str, ...]] = {"script": ()}
    if not setting.dry_run:
        scripts["script that clips too early"] = ("--scaled-clip",)
    updates = ("--updates", "3") if setting.dry_run else ()
    started = {}
    for name, options in scripts.items():
        path, *arguments = _script(setting, setting.choose(200, 4), *options)
        started[name] = start(python_module("tui_lab", "doctor", path, "--json", *updates, "--", *arguments))
    yield from _config_findings(setting, "reverse", ())
    yield from _config_findings(setting, "reverse without a mask", ("no_mask",))
    for name, process in started.items():
        report: dict[str, Any] = json.loads(output_of(process, may_fail=True))
        findings = [finding["code"] for finding in report["findings"]]
        yield is_true(f"{name}: no check crashed", not report["crashed"], crashed=report["crashed"])
        yield is_true(f"{name}: findings", bool(findings) == bool(scripts[name]), findings=findings)


def _config_findings(setting: Setting, name: str, faults: tuple[str, ...]) -> Iterator[Row]:
    config: Config = settings.changed(setting.config("reverse"), "faults", faults)
    report = examine_config(config, None, lambda check: None)
    codes = [finding.code for finding in report.findings]
    yield is_true(f"{name}: no check crashed", not report.crashed, crashed=[str(each) for each in report.crashed])
    yield is_true(f"{name}: findings", bool(codes) == bool(faults), findings=codes)
