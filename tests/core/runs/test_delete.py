from pathlib import Path

import pytest
from filelock import FileLock

from tests.core.recorded import recorded
from tui_lab.core.runs.catalog import find_runs, write_notes
from tui_lab.core.runs.delete import removable, remove
from tui_lab.core.runs.lock import LOCK
from tui_lab.util.errors import RunError


def test_a_run_is_removed_whole_and_what_its_links_lead_to_is_not(tmp_path: Path) -> None:
    run, elsewhere = recorded(tmp_path / "runs" / "a"), tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("mine", "utf-8")
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "step-00000008").symlink_to(elsewhere)
    write_notes(run.path, ["old"], "")
    remove(run.path)
    assert list((tmp_path / "runs").iterdir()) == []
    assert (elsewhere / "thesis.txt").read_text("utf-8") == "mine"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    (tmp_path / "link").symlink_to(run.path)
    with pytest.raises(RunError, match="a link, which is not followed"):
        remove(tmp_path / "link")
    assert (run.path / "config.toml").exists() and (tmp_path / "link").is_symlink()


def test_what_is_no_run_is_not_removed(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        removable(tmp_path / "nowhere")
    folder = tmp_path / "project"
    folder.mkdir()
    with pytest.raises(RunError, match="no run folder"):
        remove(folder)
    (folder / "config.toml").write_text("[server]\nport = 1\n", "utf-8")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    with pytest.raises(RunError, match=r"its config\.toml is not a run's"):
        remove(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["config.toml", "tokenizer.json"]


def test_a_run_with_somebodys_work_in_it_is_not_removed(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    (run.path / "analysis.ipynb").write_text("{}", "utf-8")
    with pytest.raises(RunError, match=r"holds what no run writes: analysis\.ipynb"):
        remove(run.path)
    assert len(find_runs(tmp_path)) == 1


def test_a_run_that_is_being_trained_is_not_removed(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    with FileLock(run.path / LOCK), pytest.raises(RunError, match="it is being trained now"):
        remove(run.path)
    remove(run.path)
    assert find_runs(tmp_path) == []
