"""The logs of the user's experiments stay as they are."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from tui_lab.core.watch.unwritten.event_files import redirect_event_files


@pytest.fixture
def writers(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[EventFileWriter]]:
    """Those of a test, which are closed after it."""
    monkeypatch.setattr(EventFileWriter, "__init__", EventFileWriter.__init__)  # Restored after the test.
    writers: list[EventFileWriter] = []
    yield writers
    for writer in writers:
        writer.close()


def test_no_event_file_comes_into_a_folder_of_logs(writers: list[EventFileWriter], tmp_path: Path) -> None:
    logs, copies = tmp_path / "logs", tmp_path / "copies"
    logs.mkdir()
    (logs / "events.out.tfevents.1").write_bytes(b"the user's")
    noted: list[object] = []
    redirect_event_files(str(copies), noted.append)
    writers += [EventFileWriter(str(logs)), EventFileWriter(logdir=str(tmp_path / "new"))]
    writers.append(EventFileWriter(f"{writers[0].get_logdir()}/hparams"))  # As SummaryWriter.add_hparams does.
    for writer in writers:
        writer.add_event(Event(step=1))
        writer.flush()
    assert [file.read_bytes() for file in logs.iterdir()] == [b"the user's"]
    assert not (tmp_path / "new").exists()
    assert noted == [str(logs), str(tmp_path / "new")]
    assert len(list(copies.rglob("*tfevents*"))) == 3
