"""No Python file runs unless the user named it, no matter who made the config or run, and only while unchanged."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.core.tiny import tiny, trainer
from tui_lab.cli.options import trust_code
from tui_lab.core.config import settings
from tui_lab.core.inference.load_model import load_model
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.user_code import trust
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

MODEL = """
import pathlib
import torch
from torch import nn

pathlib.Path(__file__).with_suffix(".executed").touch()

class Mine(nn.Module):
    def __init__(self, n_vocab):
        super().__init__()
        self.e, self.h = nn.Embedding(n_vocab, 4), nn.Linear(4, n_vocab)
    def forward(self, x):
        return self.h(self.e(x))
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MODEL, "utf-8")
    return path


def executed(file: Path) -> bool:
    return file.with_suffix(".executed").exists()


def refused(action: Callable[[], object]) -> bool:
    """Whether `action` raises "not_trusted"."""
    with pytest.raises(ConfigError) as raised:
        action()
    [problem] = raised.value.problems
    return problem.code == "not_trusted" and problem.key == "model.source"


def run_of_another_machine(file: Path, folder: Path) -> Run:
    """A run recorded where its file was named, opened where it was not."""
    trust.allow(f"{file}:Mine")
    opened = open_run.start("tiny", tiny(f"model.source={file}:Mine", "train.steps=2"), folder)
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    file.with_suffix(".executed").unlink()
    (cache_folder() / "trusted.json").unlink()
    return opened.run


def test_untrusted_file_is_not_executed(file: Path) -> None:
    assert refused(lambda: trainer(f"model.source={file}:Mine")) and not executed(file)
    trust.allow(f"{file}:Mine")
    trainer(f"model.source={file}:Mine")
    assert executed(file)


def test_changed_file_must_be_named_again(file: Path) -> None:
    trust.allow(f"{file}:Mine")
    file.write_text(MODEL + "\n", "utf-8")
    assert refused(lambda: trainer(f"model.source={file}:Mine")) and not executed(file)
    assert trust.untrusted(f"{file}:Mine") == f"{file}:Mine"
    trust.allow_named([f"model.source={file}:Mine"])
    trainer(f"model.source={file}:Mine")
    assert executed(file)


def test_opening_a_run_does_not_execute_its_untrusted_file(file: Path, tmp_path: Path) -> None:
    run = run_of_another_machine(file, tmp_path / "a")
    assert refused(lambda: load_model(run))
    assert refused(lambda: open_run.resume(str(run.path), 4))
    assert refused(lambda: open_run.fork(str(run.path), run.trainer_config()))
    assert refused(lambda: open_run.start("again", run.trainer_config()))
    assert not executed(file) and list(run.events()) and run.downsampled().events(), "its event log can be read"
    trust_code(None, allow_code=True, run=str(run.path))
    load_model(run)
    assert executed(file)


@pytest.mark.parametrize("allow_code", [False, True])
def test_allow_code_trusts_the_file_that_the_config_names(allow_code: bool, file: Path, tmp_path: Path) -> None:
    config = tmp_path / "mine.toml"
    config.write_text(settings.to_toml(tiny(f"model.source={file}:Mine")), "utf-8")
    trust_code(["optim.lr=0.1"], allow_code, source=str(config))
    assert trust.is_allowed(f"{file}:Mine") == allow_code


def test_trust_holds_for_the_file_from_any_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    trust.allow_named(["optim.lr=1", f" model.source = '{file.name}:Mine' "])
    monkeypatch.chdir("/")
    assert trust.is_allowed(f"{file}:Other") and not trust.untrusted(f"{file}:Mine")
    other = file.with_name("other.py")
    other.write_text(MODEL, "utf-8")
    assert trust.untrusted(f"{other}:Mine") == f"{other}:Mine", "the same content under another name"


def test_trust_follows_a_link_to_the_file_it_points_to(file: Path) -> None:
    trust.allow(f"{file}:Mine")
    link = file.with_name("link.py")
    link.symlink_to(file)
    assert trust.is_allowed(f"{link}:Mine")
    link.unlink()
    link.write_text(MODEL, "utf-8")
    assert not trust.is_allowed(f"{link}:Mine")


@pytest.mark.parametrize("stored", ["", "{", "{}", "[1]", '["x"]', '{"{file}": 1}', '{"{file}": ""}', "[" * 100_000])
def test_damaged_store_trusts_nothing(stored: str, file: Path) -> None:
    cache_folder().mkdir(parents=True)
    (cache_folder() / "trusted.json").write_text(stored.replace("{file}", os.path.realpath(file)), "utf-8")
    assert not trust.is_allowed(f"{file}:Mine")
    trust.allow(f"{file}:Mine")
    assert trust.is_allowed(f"{file}:Mine")


def test_cache_that_cannot_be_written_is_an_error(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUI_LAB_CACHE", str(file / "no folder"))
    with pytest.raises(ConfigError) as raised:
        trust.allow(f"{file}:Mine")
    assert raised.value.code == "unwritable" and not trust.is_allowed(f"{file}:Mine")


def test_missing_file_is_not_found() -> None:
    with pytest.raises(ConfigError) as raised:
        trust.allow("nowhere.py:Mine")
    assert raised.value.code == "not_found"
    assert trust.untrusted("nowhere.py:Mine") == "" == trust.untrusted("")
