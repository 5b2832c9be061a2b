"""Locking run folders: one writer at a time, named in the error of the second; readers are not affected."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.core.recorded import summary
from tests.core.tiny import tiny, trainer
from tui_lab.core.inference.load_model import load_model
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import format_version, lock, open_run
from tui_lab.core.runs.append_log import Appender
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.lock import InUse, in_use, take
from tui_lab.core.runs.run_files import HOLDER, LOCK
from tui_lab.util.errors import RunError, TrainingError


def trained(path: Path) -> Run:
    opened = open_run.start("tiny", tiny(), path)
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    return opened.run


def test_second_writer_is_refused_with_the_holder_until_the_first_releases(tmp_path: Path) -> None:
    first = take(tmp_path)
    with pytest.raises(InUse) as refused:
        take(tmp_path)
    holder = refused.value.holder
    assert (refused.value.code, refused.value.problems[0].key) == ("in_use", str(tmp_path))
    assert (holder.pid, holder.host) == (os.getpid(), socket.gethostname()) and in_use(tmp_path) == holder
    assert f"kill {os.getpid()}" in str(refused.value)
    first.release()
    first.release()
    assert in_use(tmp_path) is None
    take(tmp_path).release()


def test_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
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
        with pytest.raises(InUse) as refused:
            take(tmp_path)
        assert refused.value.holder.pid == process.pid
        process.kill()
    assert (tmp_path / HOLDER).exists() and in_use(tmp_path) is None
    take(tmp_path).release()


@pytest.mark.parametrize("content", ["", "[]", "{", '{"pid": "x"}', "[" * 100_000, '{"pid": 1}'])
def test_damaged_holder_file_is_an_unknown_holder(content: str, tmp_path: Path) -> None:
    own = take(tmp_path)
    (tmp_path / HOLDER).write_text(content, "utf-8")
    assert in_use(tmp_path) == lock.UNKNOWN
    with pytest.raises(InUse):
        take(tmp_path)
    own.release()


def test_holder_with_control_characters_is_escaped(tmp_path: Path) -> None:
    own = take(tmp_path)
    holder = {"pid": 1, "host": "\x1b[2J", "since": "a\nb", "command": "\x07"}
    (tmp_path / HOLDER).write_text(json.dumps(holder), "utf-8")
    assert str(in_use(tmp_path)) == r"process 1 on \x1b[2J, since a b: \x07"
    own.release()


def test_in_use_writes_nothing(tmp_path: Path) -> None:
    assert in_use(tmp_path) is None and list(tmp_path.iterdir()) == []


def test_in_use_does_not_bring_back_a_folder_that_is_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = lock._acquired

    def removed_before(folder: Path, patience: float) -> Any:
        folder.rename(tmp_path / "removed")
        return acquired(folder, patience)

    (tmp_path / "run").mkdir()
    take(tmp_path / "run").release()
    monkeypatch.setattr(lock, "_acquired", removed_before)
    assert in_use(tmp_path / "run") is None
    assert [path.name for path in tmp_path.iterdir()] == ["removed"]


@pytest.mark.parametrize("name", [LOCK, HOLDER])
def test_lock_file_that_is_a_link_is_refused(name: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine", "utf-8")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / name).symlink_to(outside)
    with pytest.raises(RunError) as caught:
        take(folder)
    assert caught.value.problems[0].key == str(folder / name)
    assert outside.read_text("utf-8") == "mine"


def test_run_in_use_can_be_read_and_forked(tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    opened = open_run.resume(str(run.path), 20)
    with pytest.raises(InUse):
        open_run.resume(str(run.path), 20)
    assert load_model(run)[0].n_vocab == 5
    assert list(run.events()) and run.downsampled().events() and run.config() and runs.find(str(run.path)) == run
    fork = open_run.fork(str(run.path), tiny("train.steps=20"))
    assert in_use(fork.run.path) is not None
    fork.close()
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    open_run.resume(str(run.path), 30).close()


def test_run_that_fails_to_open_is_released(tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    (run.latest() / "model.safetensors").write_bytes(b"")
    with pytest.raises(RunError) as caught:
        open_run.resume(str(run.path), None)
    assert caught.value.code == "damaged"
    assert in_use(run.path) is None


def full(*values: Any, **options: Any) -> NoReturn:
    raise OSError(errno.ENOSPC, "full")


def test_lock_that_cannot_clear_the_folder_is_released(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trained(tmp_path / "a")
    monkeypatch.setattr(format_version, "update", full)
    with pytest.raises(RunError) as caught:
        run.lock()
    assert caught.value.code == "unwritable" and in_use(run.path) is None


def test_start_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open_run, "Trainer", full)
    with pytest.raises(RunError) as caught:
        open_run.start("tiny", tiny(), tmp_path / "a")
    assert caught.value.code == "unwritable" and not (tmp_path / "a").exists()


@pytest.mark.parametrize("at", ["set_up", "write"])
def test_fork_that_fails_leaves_nothing(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_up(*values: Any) -> NoReturn:
        raise MemoryError

    run = trained(tmp_path / "a")
    if at == "set_up":
        monkeypatch.setattr(open_run, "set_up", set_up)
    else:
        monkeypatch.setattr(Appender, "_write", full)
    with pytest.raises(TrainingError if at == "set_up" else RunError):
        open_run.fork(str(run.path), tiny("train.steps=20"))
    assert not list(runs.runs_folder().glob("*"))


def test_runs_of_the_same_name_and_second_have_different_folders() -> None:
    tokenizer = trainer().task.tokenizer
    paths = {runs.create("tiny", tiny(), tokenizer).path for _ in range(5)}
    assert len(paths) == 5


def test_leftovers_of_a_killed_start_are_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    for name in (LOCK, HOLDER, "tokenizer.json", ".writing-x"):
        (folder / name).write_text("half", "utf-8")
    open_run.start("tiny", tiny(), folder).close()
    assert runs.find(str(folder)).tokenizer().n_vocab == 5 and not list(folder.glob(".writing-*"))


def test_links_among_the_checkpoints_are_not_followed(tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine", "utf-8")
    (run.checkpoints / "step-99999999").symlink_to(outside)
    (run.checkpoints / ".writing-x").symlink_to(outside)
    opened = open_run.resume(str(run.path), 20)
    assert opened.trainer.step == 8, "the link is not a checkpoint"
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    assert sorted(path.name for path in run.checkpoints.iterdir()) == ["step-00000008", "step-00000020"]
    assert (outside / "mine").read_text("utf-8") == "mine" and len(list(outside.iterdir())) == 1


def test_only_a_run_without_a_checkpoint_starts_again(tmp_path: Path) -> None:
    opened = open_run.start("tiny", tiny(), tmp_path / "a")
    recorded = opened.run.record(opened.trainer.events())
    for _ in range(4):
        next(recorded)
    opened.close()
    again = open_run.resume(str(tmp_path / "a"), 9)
    events = list(again.run.record(again.trainer.events()))
    again.close()
    assert list(again.run.events()) == events and again.trainer.step == 9
    again.run.checkpoints.rename(tmp_path / "elsewhere")
    with pytest.raises(RunError) as caught:
        open_run.resume(str(tmp_path / "a"), None)
    assert caught.value.code == "not_found"
    assert list(again.run.events()) == events


@pytest.mark.parametrize("name", ["events.jsonl", "checkpoints", "digest.json", "summary.json"])
def test_run_with_a_linked_part_is_not_written(name: str, tmp_path: Path) -> None:
    run = trained(tmp_path / "a")
    part = run.path / name
    outside = tmp_path / "outside"
    run.write_summary(summary())
    part.rename(outside)
    part.symlink_to(outside)
    with pytest.raises(RunError) as caught:
        open_run.resume(str(run.path), 20)
    assert caught.value.problems[0].key == str(part)
