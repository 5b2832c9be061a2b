"""Watchers of plug-ins give hints on the events of a run, and one that fails is turned off with a hint."""

import subprocess
import sys

from tests.plugin_packages import Install
from tui_lab.core import events as ev
from tui_lab.core.doctor.findings import Finding
from tui_lab.core.doctor.monitors import Monitors

CODE = """
    from tui_lab.plugins import StepDone, finding


    class HighLoss:
        def update(self, event):
            if isinstance(event, StepDone) and event.loss > 5:
                yield finding("high", "High.", evidence=f"{event.loss}", why="why", fix="fix")


    class Quiet:
        def update(self, event):
            return None


    class Failing:
        def update(self, event):
            raise ZeroDivisionError("by zero")


    class Wrong:
        def update(self, event):
            yield "a text"
"""


def step(number: int, loss: float) -> ev.StepDone:
    return ev.StepDone(
        step=number, loss=loss, loss_ema=1.0, lr=0.1, grad_norm=1.0, epoch=0, tokens=1, seconds=1.0, tokens_per_s=1.0
    )


def hints(monitors: Monitors, *losses: float) -> list[Finding]:
    return [hint for number, loss in enumerate(losses, 1) for hint in monitors.update(step(number, loss))]


def test_a_hint_is_reported_once_and_holds(install: Install) -> None:
    install("lab-loss", "1.0", CODE, watchers="high-loss = lab_loss:HighLoss\nquiet = lab_loss:Quiet")
    monitors = Monitors()
    [hint] = hints(monitors, 1.0, 6.0, 7.0)
    assert (hint.code, hint.kind, hint.evidence) == ("high-loss/high", "hint", "6.0")
    assert monitors.active == {"high-loss/high"}


def test_each_run_has_its_own_watcher(install: Install) -> None:
    install("lab-loss", "1.0", CODE, watchers="high-loss = lab_loss:HighLoss")
    assert len(hints(Monitors(), 6.0)) == len(hints(Monitors(), 6.0)) == 1


def test_a_watcher_that_fails_is_off_and_the_others_go_on(install: Install) -> None:
    install("lab-loss", "1.0", CODE, watchers="high-loss = lab_loss:HighLoss")
    install("lab-bad", "2.0", CODE, watchers="failing = lab_bad:Failing\nwrong = lab_bad:Wrong\nmissing = lab_bad:No")
    found = {str(hint.code): hint for hint in hints(Monitors(), 6.0, 6.0)}
    assert set(found) == {"high-loss/high", "failing/failed", "wrong/failed", "missing/failed"}
    assert "ZeroDivisionError: by zero" in found["failing/failed"].evidence
    assert all("lab-bad 2.0" in found[f"{name}/failed"].title for name in ("failing", "wrong", "missing"))


def test_a_name_used_twice_names_both_packages(install: Install) -> None:
    install("lab-loss", "1.0", CODE, watchers="high-loss = lab_loss:HighLoss")
    install("other-loss", "2.0", CODE, watchers="high-loss = other_loss:HighLoss")
    [hint] = hints(Monitors(), 6.0)
    assert (
        str(hint.code) == "high-loss/failed" and "lab-loss 1.0" in hint.evidence and "other-loss 2.0" in hint.evidence
    )


def test_a_watcher_or_a_task_imports_no_torch() -> None:
    code = "import sys; from tui_lab.plugins import StepDone, finding, Task; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
