"""Values that replace those of a module: the module computes with them, and no file is changed."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.watch.process.replaced_modules import ReplacedModules

CONFIG = """
from __future__ import annotations
from dataclasses import dataclass, field
lr = 3e-4
half = lr / 2
shape = (1, 2)
n = 5 * 8
@dataclass(frozen=True)
class Optim:
    lr: float = 1e-3
    def both(self): return self.lr, lr
@dataclass(frozen=True)
class Config:
    optim: Optim = field(default_factory=Optim)
base = Config(optim=Optim(lr=7.0))
table = {"optim": {"lr": 1, "twice": 2}}
def get(): return {"lr": 1, "n": n}
"""


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The file of the module settings.base."""
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "__init__.py").write_text("width = 1\n", "utf-8")
    (folder / "base.py").write_text(CONFIG, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    finders = [*sys.meta_path]
    yield folder / "base.py"
    sys.meta_path[:] = finders
    for name in ("settings", "settings.base"):
        sys.modules.pop(name, None)


def imported(path: Path, values: dict[str, Any], name: str = "settings.base") -> tuple[Any, list[str]]:
    """Return the module, and the keys that were replaced."""
    replaced: list[str] = []
    ReplacedModules({str(path.resolve()): values}, lambda file, key: replaced.append(key)).install()
    return importlib.import_module(name), replaced


def test_a_module_computes_with_the_values(package: Path) -> None:
    values = {"lr": 1.0, "shape": [3, 4], "n": 6, "Optim.lr": 2.0, "table.optim.lr": 8, "base.optim.lr": 9.0}
    values |= {"get.lr": 5}
    module, replaced = imported(package, values)
    assert (module.lr, module.half, module.shape, module.n) == (1.0, 0.5, (3, 4), 6)
    assert module.Optim().both() == module.Config().optim.both() == (2.0, 1.0)
    assert module.base.optim.lr == 9.0 and module.table == {"optim": {"lr": 8, "twice": 2}}
    assert module.get() == {"lr": 5, "n": 6}
    assert sorted(replaced) == sorted(values)
    assert package.read_text("utf-8") == CONFIG and not list(package.parent.rglob("base*.pyc"))


def test_a_package_is_a_module_too(package: Path) -> None:
    module, replaced = imported(package.with_name("__init__.py"), {"width": 2}, "settings")
    assert module.width == 2 and replaced == ["width"]


def test_a_key_that_the_module_does_not_assign_is_left_out(package: Path) -> None:
    module, replaced = imported(package, {"lr": -1.0, "nothing": 2})
    assert module.lr == -1.0 and replaced == ["lr"] and not hasattr(module, "nothing")
