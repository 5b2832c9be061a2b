"""Two at once: the second recorder of a run folder is told who holds it, and whoever only looks is let in."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.core.recorded import summary
from tests.core.tiny import tiny, trainer
from tui_lab.core.inference.load_model import load_model
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import lock, open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import HOLDER, LOCK, InUse, in_use, take
from tui_lab.util.errors import RunError


def trained(path: Path) -> Run:
    opened = open_run.begin("tiny", tiny(), path)
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    return opened.run


def test_the_second_is_refused_with_who_holds_it_and_may_come_when_the_first_has_gone(tmp_path: Path) -> None:
    first = take(tmp_path)
    with pytest.raises(InUse) as refused:
        take(tmp_path)
    words = str(refused.value)
    assert f"process {os.getpid()} on {socket.gethostname()}, since 2" in words and f"kill {os.getpid()}" in words
    holder = in_use(tmp_path)
    assert holder is not None and holder.pid == os.getpid() and holder == refused.value.holder
    first.release()
    first.release()
    assert in_use(tmp_path) is None
    take(tmp_path).release()


def test_what_a_killed_holder_wrote_of_itself_blocks_nobody(tmp_path: Path) -> None:
    child = (
        "import sys, pathlib; from tui_lab.core.runs import lock; "
        "held = lock.take(pathlib.Path(sys.argv[1])); input('held\\n')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", child, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        holder = in_use(tmp_path)
        assert holder is not None and holder.pid == process.pid
        with pytest.raises(InUse, match=f"process {process.pid}"):
            take(tmp_path)
        process.kill()
    assert (tmp_path / HOLDER).exists() and in_use(tmp_path) is None
    take(tmp_path).release()


@pytest.mark.parametrize("facts", ["", "[]", "{", '{"pid": "x"}', "[" * 100_000, '{"pid": 1}'])
def test_facts_that_cannot_be_read_are_no_obstacle(facts: str, tmp_path: Path) -> None:
    held = take(tmp_path)
    (tmp_path / HOLDER).write_text(facts, "utf-8")
    assert in_use(tmp_path) == lock.UNKNOWN
    with pytest.raises(InUse):
        take(tmp_path)
    held.release()


def test_a_holders_command_cannot_drive_the_terminal(tmp_path: Path) -> None:
    held = take(tmp_path)
    facts = {"pid": 1, "host": "\x1b[2J", "since": "a\nb", "command": "\x07"}
    (tmp_path / HOLDER).write_text(json.dumps(facts), "utf-8")
    assert str(in_use(tmp_path)) == r"process 1 on \x1b[2J, since a b: \x07"
    held.release()


def test_asking_leaves_nothing_behind(tmp_path: Path) -> None:
    assert in_use(tmp_path) is None and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [LOCK, HOLDER])
def test_a_lock_that_is_a_link_is_not_followed(name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine", "utf-8")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(outside)
    with pytest.raises(RunError, match="is a link"):
        take(folder)
    assert outside.read_text("utf-8") == "mine"


def test_one_records_while_others_look(tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    opened = open_run.reopen(str(run.path), 20)
    with pytest.raises(InUse):
        open_run.reopen(str(run.path), 20)
    assert load_model(run)[0].n_vocab == 5
    assert list(run.events()) and run.downsampled().events() and run.config() and runs.find(str(run.path)) == run
    fork = open_run.fork(str(run.path), tiny("train.steps=20"))
    assert in_use(fork.run.path) is not None
    fork.close()
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    open_run.reopen(str(run.path), 30).close()


def test_a_run_that_cannot_be_opened_is_not_held(tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    (run.latest() / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError, match=r"model\.safetensors"):
        open_run.reopen(str(run.path), None)
    assert in_use(run.path) is None


def test_two_new_runs_of_one_name_in_one_second_get_folders_of_their_own() -> None:
    tokenizer = trainer().task.tokenizer
    made = {runs.create("tiny", tiny(), tokenizer).path for _ in range(5)}
    assert len(made) == 5


def test_what_a_creation_that_was_killed_left_is_no_run_and_in_nobodys_way(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for name in (LOCK, HOLDER, "tokenizer.json", ".writing-x"):
        (folder / name).write_text("half", "utf-8")
    open_run.begin("tiny", tiny(), folder).close()
    assert runs.find(str(folder)).tokenizer().n_vocab == 5 and not list(folder.glob(".writing-*"))


def test_links_among_the_checkpoints_and_temporaries_are_removed_and_not_followed(tmp_path: Path) -> None:
    run, outside = trained(tmp_path / "a"), tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine", "utf-8")
    (run.checkpoints / "step-99999999").symlink_to(outside)
    (run.checkpoints / ".writing-x").symlink_to(outside)
    opened = open_run.reopen(str(run.path), 20)
    assert opened.trainer.step == 8, "a link is no checkpoint"
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    assert [path.name for path in run.checkpoints.iterdir()] == ["step-00000020"]
    assert (outside / "mine").read_text("utf-8") == "mine" and len(list(outside.iterdir())) == 1


def test_a_run_killed_before_its_first_checkpoint_begins_again_and_only_such_a_one(tmp_path: Path) -> None:
    opened = open_run.begin("tiny", tiny(), tmp_path / "a")
    recorded = opened.run.record(opened.trainer.events())
    for _ in range(4):
        next(recorded)
    opened.close()
    again = open_run.reopen(str(tmp_path / "a"), 9)
    told = list(again.run.record(again.trainer.events()))
    again.close()
    assert list(again.run.events()) == told and again.trainer.step == 9
    again.run.checkpoints.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="the checkpoint that the record tells of is gone"):
        open_run.reopen(str(tmp_path / "a"), None)
    assert list(again.run.events()) == told


@pytest.mark.parametrize("name", ["events.jsonl", "checkpoints", "digest.json", "summary.json"])
def test_a_run_with_a_part_elsewhere_is_not_recorded_into(name: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    part, outside = run.path / name, tmp_path / "outside"
    run.write_summary(summary())
    part.rename(outside)
    part.symlink_to(outside)
    with pytest.raises(RunError, match=f"{name}: is a link"):
        open_run.reopen(str(run.path), 20)
