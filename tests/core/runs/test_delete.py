"""Deleting run folders, and the folders that are refused."""

from pathlib import Path

import pytest
from filelock import FileLock

from tests.core.recorded import recorded, recorded_script
from tests.core.tiny import trainer_and_run
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs.catalog import find_runs, write_notes
from tui_lab.core.runs.delete import remove, remove_unused
from tui_lab.core.runs.run_files import LOCK
from tui_lab.core.runs.summary import Summarizer, summarize
from tui_lab.util.errors import RunError


def test_run_is_deleted_but_not_the_targets_of_its_links(tmp_path: Path) -> None:
    run = recorded(tmp_path / "runs" / "a")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "thesis.txt").write_text("mine", "utf-8")
    (run.path / "checkpoints").mkdir()
    (run.path / "checkpoints" / "step-00000008").symlink_to(elsewhere)
    write_notes(run.path, ["old"], "")
    remove(run.path)
    assert list((tmp_path / "runs").iterdir()) == []
    assert (elsewhere / "thesis.txt").read_text("utf-8") == "mine"


def refusal(path: Path) -> str:
    """The code of the error when `path` is deleted."""
    with pytest.raises(RunError) as caught:
        remove(path)
    assert caught.value.problems[0].key == str(path)
    return caught.value.code


def test_link_to_a_run_is_refused(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    (tmp_path / "link").symlink_to(run.path)
    assert refusal(tmp_path / "link") == "invalid"
    assert (run.path / "config.toml").exists() and (tmp_path / "link").is_symlink()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere") == "not_found"
    folder = tmp_path / "project"
    folder.mkdir()
    assert refusal(folder) == "invalid"
    (folder / "config.toml").write_text("[server]\nport = 1\n", "utf-8")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    assert refusal(folder) == "invalid"
    assert sorted(path.name for path in folder.iterdir()) == ["config.toml", "tokenizer.json"]


def test_run_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    (run.path / "analysis.ipynb").write_text("{}", "utf-8")
    assert refusal(run.path) == "conflict"
    assert len(find_runs(tmp_path)) == 1


def test_run_in_use_is_refused(tmp_path: Path) -> None:
    run = recorded(tmp_path / "a")
    with FileLock(run.path / LOCK):
        assert refusal(run.path) == "in_use"
    remove(run.path)
    assert find_runs(tmp_path) == []


def test_run_of_a_script_is_deleted_with_its_batch_output_and_answers(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    (run.path / "answers").mkdir()
    (run.path / "answers" / "answer-1.jsonl").write_text("{}\n", "utf-8")
    (run.path / "batch.safetensors").write_bytes(b"")
    (run.path / "output.log").write_text("step 1\n", "utf-8")
    remove(run.path)
    assert not run.path.exists()


def test_run_of_a_script_that_wrote_into_its_run_folder_is_refused(tmp_path: Path) -> None:
    run = recorded_script(tmp_path / "a")
    (run.path / "weights.pt").write_bytes(b"mine")
    assert refusal(run.path) == "conflict"


@pytest.mark.parametrize(
    ("steps", "left", "is_removed"),
    [(0, "", True), (1, "", False), (0, "notes.json", False), (0, "replies.jsonl", False)],
)
def test_run_that_was_stopped_before_its_first_step_is_removed_unless_a_user_left_something_in_it(
    steps: int, left: str, is_removed: bool, tmp_path: Path
) -> None:
    trainer, run = trainer_and_run(tmp_path / "a")
    if not steps:
        trainer.commands.put(cmd.Stop())
    summarizer = Summarizer()
    for event in run.record(trainer.events()):
        summarizer.update(event)
        if isinstance(event, ev.StepDone):
            trainer.commands.put(cmd.Stop())
    run.write_summary(summarizer.summary(str(run.path)))
    if left:
        (run.path / left).write_text("{}", "utf-8")
    assert remove_unused(run) == is_removed and run.path.exists() != is_removed


def test_checkpoint_saved_by_hand_before_the_first_step_stays(tmp_path: Path) -> None:
    trainer, run = trainer_and_run(tmp_path / "a")
    trainer.commands.put(cmd.Save())
    trainer.commands.put(cmd.Stop())
    run.write_summary(summarize(run.record(trainer.events())).summary(str(run.path)))
    assert not remove_unused(run) and run.saved_checkpoints()
