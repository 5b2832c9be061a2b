"""A person's machine runs no Python that the person has not named, whoever made the config or the run."""

import json
import os
from pathlib import Path

import pytest

from tests.core.tiny import tiny, trainer
from tui_lab.core.inference.load_model import load_model
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.user_code import trust
from tui_lab.core.user_code.trust import CodeNotAllowed
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

TRAP = """
import pathlib
import torch
from torch import nn

pathlib.Path(__file__).with_suffix(".ran").touch()

class Mine(nn.Module):
    def __init__(self, n_vocab):
        super().__init__()
        self.e, self.h = nn.Embedding(n_vocab, 4), nn.Linear(4, n_vocab)
    def forward(self, x):
        return self.h(self.e(x))
"""


@pytest.fixture(autouse=True)
def nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust, "_here", set())
    monkeypatch.setattr(trust, "_everything", False)


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(TRAP, "utf-8")
    return path


def ran(trap: Path) -> bool:
    return trap.with_suffix(".ran").exists()


def strangers_run(trap: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run made where the file was named, found where it was not."""
    trust.allow(f"{trap}:Mine")
    opened = open_run.begin("tiny", tiny(f"model.source={trap}:Mine", "train.steps=2"), folder)
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    trap.with_suffix(".ran").unlink()
    monkeypatch.setattr(trust, "_here", set())
    (cache_folder() / "allowed.json").unlink()
    return opened.run


def test_a_file_that_was_not_named_is_not_run(trap: Path) -> None:
    with pytest.raises(CodeNotAllowed, match=r"model\.source = .*mine\.py:Mine'.*--allow-code, or name it"):
        trainer(f"model.source={trap}:Mine")
    assert not ran(trap)
    trust.allow(f"{trap}:Mine")
    trainer(f"model.source={trap}:Mine")
    assert ran(trap)


def test_a_run_from_somebody_else_runs_nothing_until_it_is_allowed(
    trap: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = strangers_run(trap, tmp_path / "a", monkeypatch)
    for action in (
        lambda: load_model(run),
        lambda: open_run.reopen(str(run.path), 4),
        lambda: open_run.fork(str(run.path), run.config()),
        lambda: open_run.begin("again", run.config()),
    ):
        with pytest.raises(CodeNotAllowed):
            action()
    assert not ran(trap) and list(run.events()) and run.digest().events(), "its record may be looked at"
    trust.allow_everything()
    load_model(run)
    assert ran(trap)


def test_what_was_named_is_remembered_by_its_whole_path_for_the_next_program(
    trap: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(trap.parent)
    trust.allow_named(["optim.lr=1", f" model.source = '{trap.name}:Mine' "])
    monkeypatch.setattr(trust, "_here", set())
    assert json.loads((cache_folder() / "allowed.json").read_text("utf-8")) == [os.path.realpath(trap)]
    monkeypatch.chdir("/")
    assert trust.allowed(f"{trap}:Other") and not trust.unnamed(f"{trap}:Mine")
    other = trap.with_name("other.py")
    other.write_text(TRAP, "utf-8")
    assert trust.unnamed(f"{other}:Mine") == f"{other}:Mine"


def test_a_link_to_a_named_file_is_that_file_and_no_other(trap: Path) -> None:
    trust.allow(f"{trap}:Mine")
    link = trap.with_name("link.py")
    link.symlink_to(trap)
    assert trust.allowed(f"{link}:Mine")
    link.unlink()
    link.write_text(TRAP, "utf-8")
    assert not trust.allowed(f"{link}:Mine")


@pytest.mark.parametrize("stored", ["", "{", "{}", "[1]", '["x"]', "[" * 100_000])
def test_a_memory_that_cannot_be_read_allows_nothing(stored: str, trap: Path) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "allowed.json").write_text(stored, "utf-8")
    assert not trust.allowed(f"{trap}:Mine")
    trust.allow(f"{trap}:Mine")
    assert trust.allowed(f"{trap}:Mine")


def test_without_a_cache_it_holds_for_this_process(trap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE", str(trap / "no folder"))
    trust.allow(f"{trap}:Mine")
    assert trust.allowed(f"{trap}:Mine")


def test_a_file_that_is_not_there_is_told_as_such() -> None:
    with pytest.raises(ConfigError, match="no such file"):
        trust.allow("nowhere.py:Mine")
    assert trust.unnamed("nowhere.py:Mine") == "" == trust.unnamed("")
