"""Appending to a full disk: only whole lines, in order, and all of them once there is space."""

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_lab.core.runs import append_log
from tui_lab.core.runs.append_log import Appender
from tui_lab.util.errors import RunError

LINES = st.lists(st.binary(min_size=1, max_size=8).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=12)
real_write = os.write


class Disk:
    """Accepts `room` bytes, then refuses."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, content: bytes) -> int:
        accepted = content[: self.room]
        if not accepted:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(accepted)
        return real_write(descriptor, accepted)


@given(LINES, st.integers(0, 60), st.integers(0, 11))
@settings(deadline=None)
def test_lines_are_whole_in_order_and_complete_once_there_is_space(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], room: int, freed_at: int
) -> None:
    path = tmp_path_factory.mktemp("record") / "events.jsonl"
    path.write_bytes(b"before\n")
    disk = Disk(room)
    with pytest.MonkeyPatch.context() as patch, Appender(path) as out:
        patch.setattr(os, "write", disk.write)
        for number, line in enumerate(lines):
            if number == freed_at:
                disk.room = 10**6
            error = out.add(line)
            content = path.read_bytes()
            assert b"before\n" + b"".join(lines)[: len(content) - 7] == content and content.endswith(b"\n")
            assert out.size == len(content)
            assert (error is None) == (content == b"before\n" + b"".join(lines[: number + 1]))
            assert error is None or (error.errno, error.filename) == (errno.ENOSPC, str(path))
        disk.room = 10**6
        assert out.add(b"after\n") is None
    assert path.read_bytes() == b"before\n" + b"".join(lines) + b"after\n"


def test_number_of_waiting_lines_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_log, "MAX_WAITING", 3)
    monkeypatch.setattr(os, "write", Disk(0).write)
    with Appender(tmp_path / "events.jsonl") as out:
        for _ in range(3):
            assert out.add(b"x\n") is not None
        with pytest.raises(RunError) as caught:
            out.add(b"x\n")
    assert (caught.value.code, caught.value.problems[0].key) == ("unwritable", str(tmp_path / "events.jsonl"))


def test_removed_file_is_an_error(tmp_path: Path) -> None:
    with Appender(tmp_path / "events.jsonl") as out:
        assert out.add(b"x\n") is None
        (tmp_path / "events.jsonl").unlink()
        error = out.add(b"y\n")
        assert error is not None and error.errno == errno.ENOENT
