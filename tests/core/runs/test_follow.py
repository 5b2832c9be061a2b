"""Following an event log: each event comes once, a half-written line waits, and a rewound log is noticed."""

from pathlib import Path

import pytest

from tui_lab.core import events as ev
from tui_lab.core.runs.event_log import line_of
from tui_lab.core.runs.follow import LogFollower, Restarted
from tui_lab.util.errors import RunError


def paused(step: int) -> ev.Event:
    return ev.Paused(step=step)


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as stream:
        stream.write(data)


def test_each_event_comes_once(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    follower = LogFollower(log)
    assert follower.poll() == []
    append(log, line_of(paused(1)) + line_of(paused(2)))
    assert follower.poll() == [paused(1), paused(2)]
    append(log, line_of(paused(3)))
    assert follower.poll() == [paused(3)] and follower.poll() == []
    assert LogFollower(log, follower.offset).poll() == []


def test_a_line_still_being_written_waits(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    line = line_of(paused(1))
    append(log, line[:9])
    follower = LogFollower(log)
    assert follower.poll() == []
    append(log, line[9:])
    assert follower.poll() == [paused(1)]


def test_a_shortened_or_replaced_log_is_a_restart(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    append(log, line_of(paused(1)) + line_of(paused(2)))
    follower = LogFollower(log)
    follower.poll()
    log.write_bytes(line_of(paused(1)))
    assert follower.poll() == Restarted()
    follower = LogFollower(log)
    follower.poll()
    (tmp_path / "new").write_bytes(line_of(paused(1)) + line_of(paused(5)))
    (tmp_path / "new").rename(log)
    assert follower.poll() == Restarted()
    log.unlink()
    assert LogFollower(log).poll() == [] and follower.poll() == Restarted()


def test_a_line_that_is_no_event_is_damage(tmp_path: Path) -> None:
    log = tmp_path / "events.jsonl"
    append(log, b"{}\n")
    with pytest.raises(RunError) as caught:
        LogFollower(log).poll()
    assert caught.value.code == "damaged"
