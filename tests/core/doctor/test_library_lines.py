"""Findings about a loop that a library runs are located where the script gives it the faulty part."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.library_lines import library_line, part_line
from tui_lab.core.doctor.loop.observed import CriterionCall, Observed
from tui_lab.core.doctor.loop.record import LoopEvent, LoopRecord, UpdateRecord
from tui_lab.core.user_code.shown_file import shown_file

TRAINER = """import torch
rows = {"labels": [1]}
def loss(outputs): return cross_entropy(outputs.softmax())
args = Arguments(warmup_steps=9, learning_rate=1.0)
model = model.to(torch.bfloat16)
trainer = Trainer(args, eval_dataset=rows)
trainer.train()
"""
OWN_LOOP = "for batch in loader:\n    loss.backward(); optimizer.step()\n"


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    file = tmp_path / "train.py"
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(__file__=str(file)))
    return file


def record(file: Path, line: int, own_loss: int = 0) -> LoopRecord:
    """Return one update whose calls all come from one line; own_loss: that of a loss function of the user."""
    place = f"{shown_file(str(file))}:{line}"
    update = UpdateRecord(number=0, events=(LoopEvent("backward", place), LoopEvent("step", place)))
    lines = [f"{shown_file(str(file))}:{own_loss}"] if own_loss else [place]
    calls = tuple(CriterionCall("cross_entropy", line, "scores", (2, 3)) for line in lines)
    return LoopRecord(updates=(update,), observed=Observed(criteria=calls))


def finding(code: FindingCode) -> Finding:
    return Finding(code=code, title="", evidence="", why="", fix="")


@pytest.mark.parametrize(
    ("code", "own_loss", "line"),
    [
        ("double_softmax", 3, 3),
        ("double_softmax", 0, 3),
        ("summed_loss", 0, None),
        ("padding_trained", 3, 2),
        ("lr_schedule", 0, 4),
        ("updates_lost", 0, 5),
        ("leaked_validation", 0, 6),
        ("causal_leak", 0, None),
    ],
)
def test_part_that_a_library_was_given(code: FindingCode, own_loss: int, line: int | None, script: Path) -> None:
    script.write_text(TRAINER, "utf-8")
    of_trainer = record(script, 7, own_loss)
    library = library_line(of_trainer)
    assert library == f"{shown_file(str(script))}:7"
    expected = "" if line is None else f"{shown_file(str(script))}:{line}"
    assert part_line(finding(code), of_trainer, library) == expected


def test_loop_in_one_line_of_the_user_is_no_library(script: Path) -> None:
    script.write_text(OWN_LOOP, "utf-8")
    assert library_line(record(script, 2)) == ""
