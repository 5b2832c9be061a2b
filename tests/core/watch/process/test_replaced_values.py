"""Values that replace those of a script: in place before its next line uses them, and nothing else changes."""

import builtins
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.watch.process.replaced_values import ReplacedValues

SCRIPT = """
from dataclasses import dataclass
from types import SimpleNamespace
import helper
from helper import *
lr = 1
a, b = 1, (2, 3)
config = {"lr": 1, "other": 2, "optim": {"lr": 3}}
other = SimpleNamespace(optim=SimpleNamespace(lr=4))
other.optim.wd = 5
half = lr / 2
class Plain:
    n = 4
    twice = 2 * n
    class Inner:
        n = 5
@dataclass
class Fields:
    n: int = 4
    def lr(self):
        lr = 7
        return lr
seen = [lr, half, a, b, config, Plain.n, Plain.twice, Fields().n, Fields().lr(), helper.lr]
seen += [other.optim.lr, other.optim.wd, Plain.Inner.n]
last = 1
"""


@pytest.fixture(autouse=True)
def trace() -> Iterator[None]:
    """A tracer of the tests themselves, as that of coverage, stays."""
    before = sys.gettrace()
    importing = builtins.__import__
    yield
    assert builtins.__import__ is importing
    sys.settrace(before)


def run(
    values: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch, replaced: list[str] | None = None
) -> dict[str, Any]:
    done = [] if replaced is None else replaced
    (folder / "helper.py").write_text("lr = 1\n", "utf-8")
    (folder / "train.py").write_text(SCRIPT, "utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    ReplacedValues(str(folder / "train.py"), values, done.append).install()
    variables = runpy.run_path(str(folder / "train.py"), run_name="__main__")
    assert sys.gettrace() is None
    return variables


def test_values_are_replaced_before_the_next_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"lr": 5, "b": [8, 9], "config.lr": 6, "Plain.n": 10, "Fields.n": 11, "last": 12}
    values |= {"config.optim.lr": 13, "other.optim.lr": 14, "other.optim.wd": 15, "Plain.Inner.n": 16}
    variables = run(values, tmp_path, monkeypatch)
    config = {"lr": 6, "other": 2, "optim": {"lr": 13}}
    assert variables["seen"] == [5, 2.5, 1, (8, 9), config, 10, 20, 11, 7, 1, 14, 15, 16]
    assert variables["last"] == 12


def test_a_value_that_is_never_assigned_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replaced: list[str] = []
    variables = run({"nothing": 1, "a": 3}, tmp_path, monkeypatch, replaced)
    assert "nothing" not in variables and variables["a"] == 3 and replaced == ["a"]


FUNCTIONS = """
import functools
class Base:
    def value(self): return 0
class Trainer(Base):
    @staticmethod
    def defaults():
        config = Config()
        config.trainer.lr = 1
        return config
    def value(self):
        n = 1
        return super().value() + n
class Config:
    def __init__(self):
        self.trainer = lambda: 0
def twice(function):
    @functools.wraps(function)
    def called(): return [function(), function()]
    return called
@twice
def get_config(batch=3):
    width, n = 4, 4
    return {"lr": width / n, "batch": batch, "optim": {"lr": 5}}
def main():
    lr = 1
    return lr, Trainer.defaults().trainer.lr, Trainer().value(), get_config()
if __name__ == "__main__":
    result = main()
"""


def test_functions_of_a_script_have_the_values(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(FUNCTIONS, "utf-8")
    values = {
        "main.lr": 2, "Trainer.defaults.config.trainer.lr": 3, "Trainer.value.n": 4, "get_config.width": 8,
        "get_config.optim.lr": 6,
    }  # fmt: skip
    replaced: list[str] = []
    ReplacedValues(str(tmp_path / "train.py"), values, replaced.append).install()
    variables = runpy.run_path(str(tmp_path / "train.py"), run_name="__main__")
    config = {"lr": 2.0, "batch": 3, "optim": {"lr": 6}}
    assert variables["result"] == (2, 3, 4, [config, config])
    assert sorted(replaced) == sorted(values)


UNLIKE_CONSTANTS = """
class Fixed(dict):
    def __setitem__(self, key, value): pass
table = Fixed()
table["n"] = 3
last = 1
"""


def test_a_value_that_an_object_does_not_take_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(UNLIKE_CONSTANTS, "utf-8")
    replaced: list[str] = []
    ReplacedValues(str(tmp_path / "train.py"), {"table.n": 4, "last": 5}, replaced.append).install()
    runpy.run_path(str(tmp_path / "train.py"), run_name="__main__")
    assert replaced == ["last"]


def test_a_module_is_replaced_in_whatever_file_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text("lr = 1\nexec('other = lr')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    ReplacedValues(None, {"lr": 2}).install()
    assert runpy.run_module("package.train", run_name="__main__")["other"] == 2
