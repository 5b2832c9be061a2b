"""The code of docs/guide/plugins.md works as the page says."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.documents import ROOT, code_blocks
from tests.core.tiny import TABLES
from tests.plugin_packages import Install
from tui_lab import Case, examine
from tui_lab.core.config import settings
from tui_lab.core.doctor.monitors import Monitors
from tui_lab.core.training.task_factory import build_task
from tui_lab.data.corpora.encode import load_corpus
from tui_lab.plugins import StepDone

PAGE = ROOT / "docs" / "guide" / "plugins.md"
ENTRY_POINTS = {
    "tasks": "parity = my_plugin.task:make",
    "tokenizers": "words = my_plugin.tokenizer:Words",
    "checks": "ends-alike = my_plugin.check:ends_alike",
    "watchers": "large-gradients = my_plugin.watcher:LargeGradients",
}


@pytest.fixture(autouse=True)
def guide_s_package(install: Install) -> None:
    """The package that a reader of the page has written."""
    folder = install("my-plugin", "0.1.0", **ENTRY_POINTS)
    (folder / "my_plugin.py").unlink()
    (folder / "my_plugin").mkdir()
    for block in code_blocks(PAGE, "python"):
        first, _, code = block.partition("\n")
        if first.startswith("# my_plugin/"):
            (folder / first.removeprefix("# ")).write_text(code, "utf-8")
    assert sorted(path.stem for path in (folder / "my_plugin").iterdir()) == ["check", "task", "tokenizer", "watcher"]


def test_task() -> None:
    task = build_task(settings.build({**TABLES, "data": {"task": "parity", "options": {"bits": 5}}}))
    x, y = task.train.examples(np.arange(4))
    assert y[:, -1].tolist() == (x.sum(axis=1) % 2).tolist() and (y[:, :-1] == -1).all()


def test_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("one two one", "utf-8")
    assert load_corpus(str(tmp_path / "text.txt"), "words").tokens.tolist() == [0, 1, 0]


def test_check() -> None:
    model = torch.nn.Sequential(torch.nn.Embedding(5, 8), torch.nn.Linear(8, 5))
    x = torch.randint(0, 5, (8, 6))
    x[:, -1] = 3
    assert "ends-alike/same_end" in [str(hint.code) for hint in examine(Case(model, (x, x))).hints]


def test_watcher() -> None:
    monitors = Monitors()
    event = StepDone(
        step=1, loss=1.0, loss_ema=1.0, lr=0.1, grad_norm=200.0, epoch=0, tokens=1, seconds=0.1, tokens_per_s=1.0
    )
    hints = [str(hint.code) for _ in range(12) for hint in monitors.update(event)]
    assert hints == ["large-gradients/large"]
    assert "my_plugin.watcher" in sys.modules
