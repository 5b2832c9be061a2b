"""A stranger's file: what it may give, and what is said of one that is no use."""

from pathlib import Path

import pytest
from torch import nn

from tui_lab.core.doctor.case import Case, examine
from tui_lab.core.doctor.from_file import case_from
from tui_lab.util.errors import ConfigError

MODEL = """
import torch
from torch import nn

class Mini(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.h = nn.Embedding(13, 8), nn.Linear(8, 13)
    def forward(self, x):
        return self.h(torch.tanh(self.e(x).cumsum(1)))

made = Mini()

def case():
    from tui_lab import Case
    x = torch.randint(0, 13, (2, 9))
    return Case(made, (x[:, :-1], x[:, 1:]))

def raises():
    return {}["nothing"]

def number():
    return 3

def blind():
    return nn.Linear(2, 2)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL, "utf-8")
    return path


@pytest.mark.parametrize("name", ["Mini", "made", "case"])
def test_a_class_a_model_or_a_function_gives_a_case(name: str, file: Path) -> None:
    given = case_from(f"{file}:{name}")
    assert isinstance(given, Case) and isinstance(given.model, nn.Module)
    assert examine(given).findings == ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("Minni", "has no 'Minni'; did you mean Mini\\? \\(it offers Mini, made, case, raises, number, blind\\)"),
        ("raises", "line 20: raises\\(\\) raised KeyError: 'nothing' \\(in: return {}"),
        ("number", "gives int: allowed are a torch.nn.Module, a Case, or a function of one"),
        ("blind", "no nn.Embedding to tell its vocabulary; give a Case with batches"),
    ],
)
def test_a_name_that_is_no_use_is_said(name: str, words: str, file: Path) -> None:
    with pytest.raises(ConfigError, match=words):
        case_from(f"{file}:{name}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def f(:\n", "line 1: not Python"),
        ("x = 1\nimport nothing_of_that_name\n", "line 2: running it raised ModuleNotFoundError"),
        ("import sys\nsys.exit(4)\n", "line 2: running it raised SystemExit"),
        ("", "has no 'x' \\(it offers none\\)"),
    ],
)
def test_a_file_that_does_not_run_is_said_with_its_line(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(text, "utf-8")
    with pytest.raises(ConfigError, match=words):
        case_from(f"{tmp_path / 'bad.py'}:x")


def test_a_file_that_is_not_there_and_a_name_that_is_missing(file: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        case_from("nowhere.py:x")
    with pytest.raises(ConfigError, match="which name"):
        case_from(str(file))
