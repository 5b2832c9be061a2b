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
import helper
from helper import *
lr = 1
a, b = 1, (2, 3)
config = {"lr": 1, "other": 2}
half = lr / 2
class Plain:
    n = 4
    twice = 2 * n
@dataclass
class Fields:
    n: int = 4
    def lr(self):
        lr = 7
        return lr
seen = [lr, half, a, b, config, Plain.n, Plain.twice, Fields().n, Fields().lr(), helper.lr]
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


def run(values: dict[str, Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (folder / "helper.py").write_text("lr = 1\n", "utf-8")
    (folder / "train.py").write_text(SCRIPT, "utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "helper", raising=False)
    ReplacedValues(str(folder / "train.py"), values).install()
    variables = runpy.run_path(str(folder / "train.py"), run_name="__main__")
    assert sys.gettrace() is None
    return variables


def test_values_are_replaced_before_the_next_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"lr": 5, "b": [8, 9], "config.lr": 6, "Plain.n": 10, "Fields.n": 11, "last": 12}
    variables = run(values, tmp_path, monkeypatch)
    config = {"lr": 6, "other": 2}
    assert variables["seen"] == [5, 2.5, 1, (8, 9), config, 10, 20, 11, 7, 1]
    assert variables["last"] == 12


def test_a_value_that_is_never_assigned_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    variables = run({"nothing": 1, "a": 3}, tmp_path, monkeypatch)
    assert "nothing" not in variables and variables["a"] == 3


def test_a_module_is_replaced_in_whatever_file_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "train.py").write_text("lr = 1\nexec('other = lr')\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    ReplacedValues(None, {"lr": 2}).install()
    assert runpy.run_module("package.train", run_name="__main__")["other"] == 2
