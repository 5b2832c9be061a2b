"""Whatever the disk refuses and when: whole lines only, in order, and all of them once there is room."""

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
    """Takes what `room` there is, then refuses."""

    def __init__(self, room: int) -> None:
        self.room = room

    def write(self, descriptor: int, content: bytes) -> int:
        taken = content[: self.room]
        if not taken:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(taken)
        return real_write(descriptor, taken)


@given(LINES, st.integers(0, 60), st.integers(0, 11))
@settings(deadline=None)
def test_whole_lines_in_order_and_all_of_them_once_there_is_room(
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
            trouble = out.add(line)
            whole = path.read_bytes()
            assert b"before\n" + b"".join(lines)[: len(whole) - 7] == whole and whole.endswith(b"\n")
            assert out.size == len(whole)
            assert (trouble is None) == (whole == b"before\n" + b"".join(lines[: number + 1]))
            assert trouble is None or (trouble.errno, trouble.filename) == (errno.ENOSPC, str(path))
        disk.room = 10**6
        assert out.add(b"after\n") is None
    assert path.read_bytes() == b"before\n" + b"".join(lines) + b"after\n"


def test_what_waits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(append_log, "MOST_WAITING", 3)
    monkeypatch.setattr(os, "write", Disk(0).write)
    with Appender(tmp_path / "events.jsonl") as out:
        for _ in range(3):
            assert out.add(b"x\n") is not None
        with pytest.raises(RunError, match=r"events\.jsonl: No space left on device; 3 events could not be written"):
            out.add(b"x\n")


def test_a_file_that_was_removed_is_noticed(tmp_path: Path) -> None:
    with Appender(tmp_path / "events.jsonl") as out:
        assert out.add(b"x\n") is None
        (tmp_path / "events.jsonl").unlink()
        trouble = out.add(b"y\n")
        assert trouble is not None and trouble.errno == errno.ENOENT
