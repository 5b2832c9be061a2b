"""FILE.py:NAME as a Case: what the name may be."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from tui_lab.core.doctor.program.case import Case
from tui_lab.core.doctor.program.case_target import examine
from tui_lab.core.doctor.program.from_file import as_case, case_from
from tui_lab.util.errors import ConfigError

MODEL = """
import torch
import torch
from torch import Tensor, nn

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

class Strange(nn.Module):
    def forward(self, graph):
        return graph.nodes

def layers():
    return nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 3))

class Translator(nn.Module):
    def __init__(self):
        super().__init__()
        self.s, self.t, self.h = nn.Embedding(13, 8), nn.Embedding(13, 8), nn.Linear(8, 13)
    def forward(self, source, target):
        return self.h(torch.tanh(self.s(source).mean(1, keepdim=True) + self.t(target).cumsum(1)))

class Short(Mini):
    def __init__(self):
        super().__init__()
        self.places = nn.Embedding(4, 8)
    def forward(self, x):
        return self.h(torch.tanh((self.e(x) + self.places(torch.arange(x.shape[1]))).cumsum(1)))

class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.r, self.h = nn.Embedding(13, 8), nn.GRU(8, 8), nn.Linear(8, 13)
    def forward(self, x):
        return self.h(self.r(self.e(x))[0])
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL, "utf-8")
    return path


@pytest.mark.parametrize("name", ["Mini", "made", "case", "layers", "Translator", "Short", "TimeFirst"])
def test_name_may_be_a_class_a_model_or_a_function_that_returns_a_case(name: str, file: Path) -> None:
    given = case_from(f"{file}:{name}")
    assert isinstance(given, Case) and isinstance(given.model, nn.Module)


@pytest.mark.parametrize(
    "name", ["layers", "Short", *(pytest.param(n, marks=pytest.mark.slow) for n in ("Mini", "Translator", "TimeFirst"))]
)
def test_healthy_model_has_no_findings_on_the_batches_that_are_made_for_it(name: str, file: Path) -> None:
    assert examine(case_from(f"{file}:{name}")).findings == ()


@pytest.mark.parametrize(
    ("name", "code"),
    [("Minni", "unknown_name"), ("raises", "user_code"), ("number", "wrong_type"), ("Strange", "user_code")],
)
def test_name_without_a_case_is_a_config_error(name: str, code: str, file: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        case_from(f"{file}:{name}")
    assert raised.value.code == code


class FixedLength(nn.Module):
    """Adds a table of positions that is not cut to the length of the row."""

    def __init__(self, *, is_setting: bool) -> None:
        super().__init__()
        self.settings = SimpleNamespace(d_model=12, longest=24)
        self.embedding = nn.Embedding(13, 12)
        self.head = nn.Linear(12, 13)
        table = torch.randn(24, 12)
        self.tables = [table] if is_setting else table

    def forward(self, ids: Tensor) -> Tensor:
        e = self.embedding(ids) + (self.tables[0] if isinstance(self.tables, list) else self.tables)
        logits: Tensor = self.head(e.cumsum(dim=1).tanh())
        return logits


@pytest.mark.parametrize("is_setting", [True, False])
def test_model_that_takes_rows_of_one_length_gets_them(is_setting: bool) -> None:
    case = as_case(FixedLength(is_setting=is_setting), "model.py:model")
    assert case.batches(0)[0].shape[1] == 24
    assert case.model(case.batches(0)[0]).shape == (*case.batches(0)[0].shape, 13)


def test_model_that_takes_rows_of_one_length_is_examined() -> None:
    assert examine(as_case(FixedLength(is_setting=False), "model.py:model")).crashed == ()
