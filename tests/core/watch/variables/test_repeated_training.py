"""A training that a script may repeat is recognized by its calls."""

import sys
from pathlib import Path

import pytest

from tests.core.watch.variables.script_text import run_script
from tui_lab.core.watch.variables import repeated_training
from tui_lab.core.watch.variables.loops import loops_around
from tui_lab.core.watch.variables.repeated_training import may_be_repeated

REPEATED = {
    "another training later": """
        for i in range(4): optimizer.step()
        for i in range(4): optimizer.step()
    """,
    "a function that trains twice": """
        def train():
            for i in range(4): optimizer.step()
        train()
        train()
    """,
}
ONCE = {
    "a loop": "for i in range(4): optimizer.step()",
    "a function that is called once": """
        def train():
            for i in range(4): optimizer.step()
        model.train()
        train()
    """,
}


class Optimizer:
    """Asks at its first step."""

    def __init__(self) -> None:
        self.answers: list[bool] = []

    def step(self) -> None:
        frame = sys._getframe(1)
        self.answers.append(may_be_repeated(frame, loops_around(frame)))


class Model:
    def train(self) -> None:
        """Does not train."""


@pytest.mark.parametrize(
    ("text", "is_called_by_pytest", "is_repeated"),
    [
        *((text, False, True) for text in REPEATED.values()),
        *((text, False, False) for text in ONCE.values()),
        (ONCE["a loop"], True, True),
    ],
    ids=[*REPEATED, *ONCE, "called by a library"],
)
def test_calls_say_whether_a_training_is_repeated(
    text: str, *, is_called_by_pytest: bool, is_repeated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_called_by_pytest:
        monkeypatch.setattr(repeated_training, "_is_called_by_others", lambda frame: False)
    optimizer = Optimizer()
    run_script(text, tmp_path / "train.py", {"__name__": "__main__", "optimizer": optimizer, "model": Model()})
    assert set(optimizer.answers) == {is_repeated}
