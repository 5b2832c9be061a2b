"""How many updates of a script are examined, and what is seen after the first 50."""

from pathlib import Path

import pytest

from tui_lab.core.doctor.findings import Report
from tui_lab.core.doctor.script.process import MAX_UPDATES, UPDATES, Limits, examine_script
from tui_lab.core.watch.process.script_process import Target

SCRIPT = """
import time, torch
from torch.nn import functional as F

model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Dropout(0.2), torch.nn.Linear(16, 4))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
held_out = torch.randn(64, 6)
for step in range(1000):
    model.train()
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    F.cross_entropy(model(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
    if step == 49:
        SLEEP
    if step == 69:
        MODE
        with torch.no_grad():
            F.cross_entropy(model(held_out), held_out[:, :4].argmax(1))
"""
BUSY = "end = time.thread_time() + 3.1\n        while time.thread_time() < end: pass"


def _report(folder: Path, *, mode: str = "model.eval()", sleep: str = "pass", updates: int | None = None) -> Report:
    (folder / "train.py").write_text(SCRIPT.replace("SLEEP", sleep).replace("MODE", mode), "utf-8")
    target = Target("train.py", ())
    return examine_script(target, Limits(updates), lambda check: None, folder=str(folder), quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "codes"), [("pass", ["train_mode_in_evaluation"]), ("model.eval()", [])])
def test_fast_script_is_examined_after_more_updates(mode: str, codes: list[str], tmp_path: Path) -> None:
    report = _report(tmp_path, mode=mode)
    assert [finding.code for finding in report.findings] == codes
    assert report.examined[0] == f"{MAX_UPDATES} updates of the script"


@pytest.mark.slow
def test_given_number_of_updates_is_exact(tmp_path: Path) -> None:
    report = _report(tmp_path, mode="pass", updates=20)
    assert not report.findings
    assert report.examined[0] == "20 updates of the script"


@pytest.mark.slow
def test_slow_script_is_examined_after_the_usual_updates(tmp_path: Path) -> None:
    report = _report(tmp_path, sleep=BUSY)
    assert report.examined[0] == f"{UPDATES + 1} updates of the script"
