"""A key that was renamed is still read: in a file, with --set, in a sweep, a run folder and an event log."""

import json
from pathlib import Path

import pytest

from tests.command_line import RunCli
from tests.core.tiny import TABLES, tiny, trainer_and_run
from tui_lab.core import events as ev
from tui_lab.core.config import renamed, settings
from tui_lab.core.runs.sweep.search_space import axis
from tui_lab.core.training import checkpoint as ckpt
from tui_lab.util.errors import ConfigError
from tui_lab.util.strict_json import sealed

OLD, NEW = "train.rows_per_step", "train.batch_size"


@pytest.fixture(autouse=True)
def renamed_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """No key of a release has been renamed yet: this one is as if it had been."""
    monkeypatch.setitem(renamed.RENAMED, OLD, NEW)


def old_file(folder: Path) -> Path:
    path = folder / "old.toml"
    path.write_text(settings.to_toml(tiny()).replace("batch_size = 4", "rows_per_step = 3"), "utf-8")
    return path


def test_a_file_with_the_old_key_is_read_with_a_notice(tmp_path: Path) -> None:
    with pytest.warns(renamed.RenamedKeyWarning, match=f"{OLD} is now called {NEW}"):
        config = settings.load(str(old_file(tmp_path)))
    assert config.train.batch_size == 3


@pytest.mark.filterwarnings("always::tui_lab.core.config.renamed.RenamedKeyWarning")
def test_the_command_line_shows_the_notice_and_goes_on(tmp_path: Path, run_cli: RunCli) -> None:
    done = run_cli("config", "show", old_file(tmp_path), "--json")
    assert done.code == 0 and json.loads(done.out)["train"]["batch_size"] == 3
    assert done.err == f"tui-lab: {renamed.notice(OLD)}\n"


def test_an_override_with_the_old_key_is_taken_with_a_notice() -> None:
    with pytest.warns(renamed.RenamedKeyWarning):
        assert settings.load("reverse", [f"{OLD}=5"]).train.batch_size == 5


def test_both_names_are_a_conflict() -> None:
    with pytest.raises(ConfigError) as raised:
        settings.build({"train": {"rows_per_step": 3, "batch_size": 4}})
    assert (raised.value.code, raised.value.problems[0].key) == ("conflict", OLD)


def test_the_axis_of_a_sweep_has_the_key_of_now() -> None:
    assert axis(OLD, [2, 4]).key == NEW


def test_a_run_folder_and_its_checkpoint_are_read_without_a_notice(tmp_path: Path) -> None:
    trainer, run = trainer_and_run(tmp_path / "run")
    list(run.record(trainer.events()))
    config = run.path / "config.toml"
    config.write_text(config.read_text("utf-8").replace("batch_size", "rows_per_step"), "utf-8")
    state = run.latest() / ckpt.STATE
    content = json.loads(state.read_text("utf-8").replace("batch_size", "rows_per_step"))
    content.pop("crc32", None)
    state.write_text(sealed(content), "utf-8")
    assert run.config() == tiny() and ckpt.load_progress(run.latest()).config == tiny()


def test_a_live_change_of_the_old_key_is_one_of_the_new() -> None:
    line = json.dumps({"event": "changed", "step": 1, "key": OLD, "old": 1, "new": 2})
    assert ev.parse_event(line) == ev.Changed(step=1, key=NEW, old=1, new=2)


def test_other_tables_are_left_as_they_are() -> None:
    assert renamed.with_current_keys(TABLES) is TABLES


def test_every_entry_leads_to_a_key_that_exists() -> None:
    assert all(new in settings.fields() and old not in settings.fields() for old, new in renamed.RENAMED.items())
