"""A disk that is full, read-only or gone pauses the run; it resumes once the disk works again."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.app.session.helpers import close, collect, stopped
from tests.core.tiny import tiny
from tui_lab.app.session.messages import SessionMessage
from tui_lab.app.session.session import Session
from tui_lab.core import commands as cmd
from tui_lab.core import events as ev
from tui_lab.core.runs import open_run
from tui_lab.core.runs.folder import Run
from tui_lab.core.training.checkpoint import Checkpoint, load
from tui_lab.util import files

WHOLE = ("train.steps=12", "train.checkpoint_every=3")


def session_in(folder: Path) -> Session:
    return Session(lambda report, commands: open_run.start("tiny", tiny(*WHOLE), folder, commands=commands))


def save_failed(message: SessionMessage) -> bool:
    return isinstance(message, ev.SaveFailed)


def paused(message: SessionMessage) -> bool:
    return isinstance(message, ev.Paused)


def losses(run: Run) -> list[float]:
    return [event.loss for event in run.events() if isinstance(event, ev.StepDone)]


@pytest.fixture
def without_error(tmp_path: Path) -> Run:
    opened = open_run.start("tiny", tiny(*WHOLE), tmp_path / "without_error")
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    return opened.run


def test_event_log_that_cannot_be_written_pauses_the_training(
    tmp_path: Path, without_error: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    os_write = os.write
    full = [True]

    def write(descriptor: int, content: bytes) -> int:
        if full[0] and b'"step": 5' in content:
            raise OSError(errno.ENOSPC, "No space left on device")
        return os_write(descriptor, content)

    monkeypatch.setattr(os, "write", write)
    session = session_in(tmp_path / "a")
    session.start()
    messages = collect(session, paused)
    [failure] = [message for message in messages if isinstance(message, ev.SaveFailed)]
    assert f"{tmp_path / 'a' / 'events.jsonl'}: No space left on device; free some disk space" in failure.message
    assert [m.step for m in messages if isinstance(m, ev.StepDone)][-1] == 5, "no step is made that cannot be recorded"
    session.send(cmd.Resume())
    again = collect(session, paused)
    assert len([message for message in again if save_failed(message)]) == 1, "the disk is still full: paused again"
    full[0] = False
    session.send(cmd.Resume())
    collect(session, stopped)
    close(session)
    assert losses(Run(tmp_path / "a")) == losses(without_error) and not session.unsaved


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_checkpoint_that_cannot_be_written_pauses_the_training(
    number: int, tmp_path: Path, without_error: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync = files.sync
    full = [True]
    first = tmp_path / "a" / "checkpoints" / "step-00000003"

    def refuse(path: Path) -> None:
        if full[0] and path.name == "model.safetensors" and first.exists():
            raise OSError(number, os.strerror(number), str(path))
        sync(path)

    monkeypatch.setattr(files, "sync", refuse)
    session = session_in(tmp_path / "a")
    session.start()
    messages = collect(session, paused)
    assert [message.step for message in messages if isinstance(message, ev.SaveFailed)] == [6]
    session.send(cmd.Save())
    collect(session, save_failed)
    assert load(Run(tmp_path / "a").latest()).progress.step == 3, "the checkpoint before is intact"
    full[0] = False
    session.send(cmd.Save())
    collect(session, lambda message: isinstance(message, ev.Saved))
    assert load(Run(tmp_path / "a").latest()).progress.step == 6
    session.send(cmd.Resume())
    collect(session, stopped)
    close(session)
    assert losses(Run(tmp_path / "a")) == losses(without_error)


def test_last_save_can_be_repeated_after_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_save = Run.save
    full = [True]

    def save(run: Run, checkpoint: Checkpoint) -> str:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(run.path))
        return run_save(run, checkpoint)

    monkeypatch.setattr(Run, "save", save)
    session = Session(lambda report, commands: open_run.start("tiny", tiny(), tmp_path / "a", commands=commands))
    session.start()
    collect(session, stopped)
    close(session)
    assert session.unsaved is not None and "No space left on device; free some disk space" in session.unsaved
    session.save_again()
    assert session.unsaved
    full[0] = False
    session.save_again()
    assert not session.unsaved and load(Run(tmp_path / "a").latest()).progress.step == 8
    assert [event.kind for event in Run(tmp_path / "a").events()][-3:] == ["stopped", "unwritten", "saved"]


def test_removed_run_folder_pauses_the_training(tmp_path: Path) -> None:
    session = Session(
        lambda report, commands: open_run.start("tiny", tiny(*WHOLE), tmp_path / "a", commands=commands), paused=True
    )
    session.start()
    collect(session, paused)
    shutil.rmtree(tmp_path / "a")
    session.send(cmd.Resume())
    messages = collect(session, paused)
    [failure] = [message for message in messages if isinstance(message, ev.SaveFailed)]
    assert "removed; restore the folder" in failure.message
    close(session)
    assert session.unsaved and not (tmp_path / "a").exists()
