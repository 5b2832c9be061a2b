"""The process of a watched script starts as Python does, and torch is imported by the script alone."""

import copy
import importlib
import importlib.abc
import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tui_lab.core.watch.process import script_process
from tui_lab.core.watch.process.script_process import (
    Target,
    forget_shadowed_modules,
    interpreter_options,
    when_imported,
)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that can be imported and that nothing has imported yet."""
    name = "imported_by_a_script"
    (tmp_path / f"{name}.py").write_text("complete = False\ncomplete = True\n", "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield name
    sys.meta_path[:] = finders
    sys.modules.pop(name, None)


@pytest.mark.parametrize(
    ("target", "words", "name"),
    [
        (Target("a/train.py", ("--lr", "1")), ["a/train.py", "--lr", "1"], "train"),
        (Target("pkg.train", ("-m",), is_module=True), ["-m", "pkg.train", "-m"], "train"),
    ],
)
def test_the_command_line_is_that_of_python(
    target: Target, words: list[str], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "orig_argv", ["python", "-u", "-m", "tui_lab", "watch"])
    assert target.command_line == [sys.executable, "-u", *words] and target.name == name


@pytest.mark.parametrize(
    ("command_line", "options"),
    [
        (["python", "/bin/tui-lab", "watch", "-u"], []),
        (["python", "-m", "tui_lab", "-u"], []),
        (["python", "-um", "tui_lab"], ["-u"]),
        (["python", "-Wm", "-c", "x"], ["-Wm"]),
        (["python", "-W", "error", "-X", "dev", "-OO", "-m", "tui_lab"], ["-W", "error", "-X", "dev", "-OO"]),
        (
            ["python", "-P", "-EB", "--check-hash-based-pycs", "always", "x"],
            ["-B", "--check-hash-based-pycs", "always"],
        ),
    ],
)
def test_options_of_python_are_passed_on(command_line: list[str], options: list[str]) -> None:
    assert interpreter_options(command_line) == options


def test_the_callback_comes_once_after_the_module_is_complete(module: str) -> None:
    calls: list[bool] = []
    when_imported(module, lambda: calls.append(sys.modules[module].complete))
    assert calls == []
    imported = importlib.import_module(module)
    importlib.reload(imported)
    assert calls == [True]
    assert imported.__spec__ is not None and imported.__loader__ is imported.__spec__.loader
    assert type(imported.__loader__).__module__ != script_process.__name__


def test_the_callback_comes_at_once_for_a_module_that_is_imported(module: str) -> None:
    calls: list[int] = []
    importlib.import_module(module)
    when_imported(module, lambda: calls.append(1))
    assert calls == [1]


@pytest.mark.parametrize(("at_first", "error"), [(None, ModuleNotFoundError), ("raise OSError", OSError)])
def test_module_that_cannot_be_imported_at_first_is_still_waited_for(
    at_first: str | None, error: type[Exception], module: str, tmp_path: Path
) -> None:
    path = tmp_path / f"{module}.py"
    text = path.read_text()
    path.unlink()
    if at_first is not None:
        path.write_text(at_first)
    calls: list[int] = []
    when_imported(module, lambda: calls.append(1))
    with pytest.raises(error):
        importlib.import_module(module)
    path.write_text(text)
    importlib.invalidate_caches()
    importlib.import_module(module)
    assert calls == [1]


def test_looking_for_the_module_does_not_end_the_wait(module: str) -> None:
    calls: list[int] = []
    when_imported(module, lambda: calls.append(1))
    when_imported(module, lambda: calls.append(2))
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.loader is not None and calls == []
    assert spec.loader.get_source(module) is not None  # type: ignore[attr-defined]
    copy.copy(spec.loader)
    importlib.import_module(module)
    assert sorted(calls) == [1, 2]


def test_another_finder_may_ask_all_finders(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Asking(importlib.abc.MetaPathFinder):
        def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
            others = [finder for finder in sys.meta_path if finder is not self]
            return next((spec for finder in others if (spec := finder.find_spec(name, path, target))), None)

    calls: list[int] = []
    when_imported(module, lambda: calls.append(1))
    monkeypatch.setattr(sys, "meta_path", [Asking(), *sys.meta_path, Asking()])
    importlib.import_module(module)
    assert calls == [1]


def test_only_modules_that_the_folder_has_are_forgotten(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script").mkdir()
    (tmp_path / "script" / f"{module}.py").touch()
    importlib.import_module(module)
    forget_shadowed_modules([module, "os"], str(tmp_path))
    assert module in sys.modules, "it is the same file"
    forget_shadowed_modules([module, "os"], str(tmp_path / "script"))
    assert module not in sys.modules and sys.modules["os"] is os
