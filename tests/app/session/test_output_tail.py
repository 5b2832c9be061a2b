"""The output of a process: whole lines, the last part of a progress bar, and a bounded cost."""

from pathlib import Path

import pytest

from tui_lab.app.session.messages import Printed
from tui_lab.app.session.output_tail import MAX_LINE, MAX_LINES, MAX_READ, OutputTail


class Log:
    """An output file and its reader."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tail = OutputTail(path)

    def add(self, data: bytes) -> Printed:
        with self.path.open("ab") as stream:
            stream.write(data)
        printed = self.tail.poll()
        assert printed is not None
        return printed


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "output.log")


def test_no_file_and_no_new_output_give_nothing(log: Log) -> None:
    assert log.tail.poll() is None
    log.add(b"one\n")
    assert log.tail.poll() is None


def test_line_without_an_end_waits_for_it(log: Log) -> None:
    assert log.add(b"one\ntw") == Printed(("one",), "tw")
    assert log.add(b"o\nthree\n") == Printed(("two", "three"))
    assert log.tail.last_lines == ("two", "three")


def test_only_the_last_part_of_a_progress_bar_is_shown(log: Log) -> None:
    assert log.add(b"\r10%\r20%").unfinished == "20%"
    assert log.add(b"\r30%\r").unfinished == "30%"
    assert log.add(b"\r40%\r100%\ndone\n") == Printed(("100%", "done"))


def test_colors_are_dropped_and_carriage_returns_at_the_end_too(log: Log) -> None:
    assert log.add(b"\x1b[31mred\x1b[0m\r\n") == Printed(("red",))


def test_long_output_is_skipped_and_counted(log: Log) -> None:
    lines = [b"line %07d\n" % number for number in range(100_000)]
    printed = log.add(b"".join(lines))
    assert printed.lines[-1] == "line 0099999" and len(printed.lines) == MAX_LINES
    assert printed.n_skipped == sum(map(len, lines[:-MAX_LINES]))


def test_very_long_line_is_cut(log: Log) -> None:
    printed = log.add(b"x" * (3 * MAX_READ))
    assert len(printed.unfinished) == MAX_LINE and printed.n_skipped == 2 * MAX_READ
    assert len(log.add(b"\n").lines[0]) == MAX_LINE


def test_replaced_file_is_read_from_its_start(log: Log) -> None:
    log.add(b"a long line of the earlier process\n")
    log.path.write_bytes(b"")
    assert log.add(b"new\n") == Printed(("new",))
