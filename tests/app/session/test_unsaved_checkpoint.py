"""A disk that is full, read-only or gone under the app: it pauses, says so, and goes on when the disk does."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from tests.app.session.test_session import collect, stopped
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


def unwritten(message: SessionMessage) -> bool:
    return isinstance(message, ev.SaveFailed)


def paused(message: SessionMessage) -> bool:
    return isinstance(message, ev.Paused)


def losses(run: Run) -> list[float]:
    return [event.loss for event in run.events() if isinstance(event, ev.StepDone)]


@pytest.fixture
def undisturbed(tmp_path: Path) -> Run:
    opened = open_run.start("tiny", tiny(*WHOLE), tmp_path / "undisturbed")
    list(opened.run.record(opened.trainer.events()))
    opened.close()
    return opened.run


def test_a_record_that_cannot_be_written_pauses_the_training_and_loses_nothing(
    tmp_path: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, full = os.write, [True]

    def write(descriptor: int, content: bytes) -> int:
        if full[0] and b'"step": 5' in content:
            raise OSError(errno.ENOSPC, "No space left on device")
        return written(descriptor, content)

    monkeypatch.setattr(os, "write", write)
    session = session_in(tmp_path / "a")
    session.start()
    told = collect(session, paused)
    [trouble] = [message for message in told if isinstance(message, ev.SaveFailed)]
    assert f"{tmp_path / 'a' / 'events.jsonl'}: No space left on device; free some disk space" in trouble.message
    assert [m.step for m in told if isinstance(m, ev.StepDone)][-1] == 5, "no update is made that cannot be told"
    session.send(cmd.Resume())
    again = collect(session, paused)
    assert len([message for message in again if unwritten(message)]) == 1, "still full: paused again"
    full[0] = False
    session.send(cmd.Resume())
    collect(session, stopped)
    session.close()
    session.join()
    assert losses(Run(tmp_path / "a")) == losses(undisturbed) and not session.unsaved


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_a_checkpoint_that_cannot_be_written_pauses_and_can_be_saved_again(
    number: int, tmp_path: Path, undisturbed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, full, first = files.sync, [True], tmp_path / "a" / "checkpoints" / "step-00000003"

    def refuse(path: Path) -> None:
        if full[0] and path.name == "model.safetensors" and first.exists():
            raise OSError(number, os.strerror(number), str(path))
        sync(path)

    monkeypatch.setattr(files, "sync", refuse)
    session = session_in(tmp_path / "a")
    session.start()
    told = collect(session, paused)
    assert [message.step for message in told if isinstance(message, ev.SaveFailed)] == [6]
    session.send(cmd.Save())
    collect(session, unwritten)
    assert load(Run(tmp_path / "a").latest()).progress.step == 3, "the last one is intact"
    full[0] = False
    session.send(cmd.Save())
    collect(session, lambda message: isinstance(message, ev.Saved))
    assert load(Run(tmp_path / "a").latest()).progress.step == 6
    session.send(cmd.Resume())
    collect(session, stopped)
    session.close()
    session.join()
    assert losses(Run(tmp_path / "a")) == losses(undisturbed)


def test_a_last_save_that_fails_can_be_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved, full = Run.save, [True]

    def save(run: Run, checkpoint: Checkpoint) -> str:
        if full[0]:
            raise OSError(errno.ENOSPC, "No space left on device", str(run.path))
        return saved(run, checkpoint)

    monkeypatch.setattr(Run, "save", save)
    session = Session(lambda report, commands: open_run.start("tiny", tiny(), tmp_path / "a", commands=commands))
    session.start()
    collect(session, stopped)
    session.close()
    session.join()
    assert session.unsaved is not None and "No space left on device; free some disk space" in session.unsaved
    session.save_again()
    assert session.unsaved
    full[0] = False
    session.save_again()
    assert not session.unsaved and load(Run(tmp_path / "a").latest()).progress.step == 8
    assert [event.kind for event in Run(tmp_path / "a").events()][-3:] == ["stopped", "unwritten", "saved"]


def test_a_folder_that_is_removed_is_told_and_the_app_goes_on(tmp_path: Path) -> None:
    session = Session(
        lambda report, commands: open_run.start("tiny", tiny(*WHOLE), tmp_path / "a", commands=commands), paused=True
    )
    session.start()
    collect(session, paused)
    shutil.rmtree(tmp_path / "a")
    session.send(cmd.Resume())
    told = collect(session, paused)
    [trouble] = [message for message in told if isinstance(message, ev.SaveFailed)]
    assert "removed; restore the folder" in trouble.message
    session.close()
    session.join()
    assert session.unsaved and not (tmp_path / "a").exists()
