"""Run folders for tests of the app."""

from pathlib import Path
from typing import Any

from tests.core.recorded import STARTED, evaluated, recorded, update
from tests.core.tiny import tiny
from tui_lab.core import events as ev
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run


def folder(name: str, final: float, *overrides: str, **more: Any) -> Run:
    """Record a run whose loss falls to `final` in eight steps."""
    events = [
        STARTED,
        *(update(step, 2.0 - (2.0 - final) * step / 8) for step in range(1, 9)),
        evaluated(8, final + 0.1),
        ev.Stopped(step=8, reason=more.pop("reason", "done")),
    ]
    return recorded(runs.runs_folder() / name, events, config=tiny(*overrides), **more)


def trained(name: str, *overrides: str) -> Path:
    """Train a tiny model for three steps and return the run's folder."""
    opened = open_run.start("tiny", tiny("train.steps=3", *overrides), runs.runs_folder() / name)
    for _ in opened.run.record(opened.trainer.events()):
        pass
    return opened.run.path
