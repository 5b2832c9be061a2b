"""Scripts that train several times: each training of another model is examined."""

from pathlib import Path

import pytest

from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.doctor.findings import Finding, Report
from tui_lab.core.doctor.script.process import examine_run
from tui_lab.core.doctor.script.trainings import joined, n_optimizers

TEACHER_AND_STUDENT = """
import torch
from torch.nn import functional as F

torch.manual_seed(0)

teacher = torch.nn.Linear(6, 4)
student = torch.nn.Linear(6, 4)
optimizer = torch.optim.Adam(teacher.parameters(), lr=1e-2)
for _ in range(60):
    x = torch.randn(16, 6)
    optimizer.zero_grad()
    F.cross_entropy(teacher(x), x[:, :4].argmax(1)).backward()
    optimizer.step()
optimizer = torch.optim.Adam(student.parameters(), lr=1e-2)
for _ in range(60):
    x = torch.randn(16, 6)
    with torch.no_grad():
        soft = teacher(x).softmax(1)
    optimizer.zero_grad()
    F.kl_div(student(x).ACTIVATION(1), soft, reduction="batchmean").backward()
    optimizer.step()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("activation", "codes"), [("softmax", ["missing_log_softmax"]), ("log_softmax", [])])
def test_second_training_is_examined(activation: str, codes: list[str], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TEACHER_AND_STUDENT.replace("ACTIVATION", activation), "utf-8")
    report = examine_run(ScriptConfig(command=("train.py",), folder=str(tmp_path)), lambda check: None)
    assert [finding.code for finding in report.findings] == codes
    assert sum("updates" in words for words in report.examined) == 2


@pytest.mark.parametrize(
    ("source", "n"),
    [
        ("torch.optim.Adam(p)\nSGD(p)", 2),
        ("if a:\n    o = SGD(p)\nelse:\n    o = AdamW(p)", 1),
        ("o = SGD(p) if a else AdamW(p)", 1),
        ("model(x)", 0),
        ("def (", 0),
    ],
)
def test_optimizers_of_a_source_are_counted(source: str, n: int, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(source, "utf-8")
    assert n_optimizers(str(tmp_path / "train.py")) == n


def test_joined_reports_have_each_code_once() -> None:
    def report(code: str) -> Report:
        return Report(findings=(Finding(code=code, title="", evidence="", why="", fix=""),))  # type: ignore[arg-type]

    assert len(joined(report("lr_zero"), report("lr_zero")).findings) == 1
    assert [f.code for f in joined(report("lr_zero"), report("no_step")).findings] == ["lr_zero", "no_step"]
