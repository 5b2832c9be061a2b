"""The variable that counts epochs is found by its name, and its value gives the epoch from 0."""

import sys
from pathlib import Path

import pytest

from tests.core.watch.variables.script_text import run_script
from tui_lab.core.watch.variables.epoch_variable import EpochVariable, epoch_variable
from tui_lab.core.watch.variables.loops import loops_around


class Optimizer:
    """Looks for the variable at its first step, and asks for the epoch at each one."""

    def __init__(self) -> None:
        self.variable: EpochVariable | None = None
        self.epochs: list[int] = []

    def step(self) -> None:
        frame = sys._getframe(1)
        self.variable = self.variable or epoch_variable(loops_around(frame))
        self.epochs.append(-1 if self.variable is None else self.variable.epoch(frame))


@pytest.mark.parametrize(
    ("text", "epochs"),
    [
        ("for epoch in range(3): optimizer.step()", [0, 1, 2]),
        ("for ep in range(1, n + 1): optimizer.step()", [0, 1]),
        ("for epoch in range(2):\n    for step in range(2): optimizer.step()", [0, 0, 1, 1]),
        ("epoch = 0\nwhile epoch < 2:\n    optimizer.step()\n    epoch += 1", [0, 1]),
        ("def train():\n    optimizer.step()\nfor epoch in range(2): train()", [0, 1]),
        ("for step in range(2): optimizer.step()", [-1, -1]),
    ],
)
def test_epoch_of_each_step(text: str, epochs: list[int], tmp_path: Path) -> None:
    optimizer = Optimizer()
    run_script(text, tmp_path / "train.py", {"optimizer": optimizer, "n": 2})
    assert optimizer.epochs == epochs
