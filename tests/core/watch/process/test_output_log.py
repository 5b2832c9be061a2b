"""What a script prints is copied to output.log, bounded in size, and an interrupt prints nothing twice."""

import io
import math
import os
import signal
from pathlib import Path

import pytest

from tui_lab.core.watch.process.output_log import (
    BYTES_PER_SECOND,
    FIRST_BYTES,
    LAST_BYTES,
    LIMIT,
    OutputLog,
    _CopiedFile,
)

LINE = b"%07d a line of a script that prints a lot of them\n"


@pytest.fixture
def log(tmp_path: Path) -> OutputLog:
    return OutputLog(tmp_path / "output.log")


def lines(first: int, n_bytes: int) -> bytes:
    return b"".join(LINE % i for i in range(first, first + n_bytes // len(LINE % 0)))


def test_slow_output_is_in_the_file_at_once(log: OutputLog, tmp_path: Path) -> None:
    for i in range(100):  # Fewer than are written at once in a second.
        log.add(memoryview(LINE % i))
        assert (tmp_path / "output.log").read_bytes().endswith(LINE % i)


def test_of_fast_output_the_first_and_last_part_of_a_second_are_kept(
    log: OutputLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutputLog, "_begin_second_later", lambda log: None)
    log._next_second = math.inf
    n_lines = 5 * BYTES_PER_SECOND // len(LINE % 0)
    for i in range(n_lines):
        log.add(memoryview(LINE % i))
    log.end()
    text = (tmp_path / "output.log").read_bytes()
    assert text.startswith(LINE % 0) and text.endswith(LINE % (n_lines - 1))
    assert text.count(b"left out") == 1 and len(text) < 3.1 * BYTES_PER_SECOND


def test_a_long_file_is_cut_to_its_first_and_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "output.log"
    printed = b""
    log = OutputLog(path)
    for first in (0, 1_000_000):
        with path.open("ab") as stream:  # As a script in the background does.
            stream.write(new := lines(first, LIMIT + 10_000))
        printed += new
        log.end()
        text = path.read_bytes()
        assert len(text) <= FIRST_BYTES + LAST_BYTES + 100
        beginning, _, rest = text.partition(b"[tui-lab: ")
        number, _, ending = rest.partition(b" ")
        ending = ending.partition(b"\n")[2]
        assert printed.startswith(beginning) and beginning.endswith(b"\n")
        assert printed.endswith(ending) and ending.startswith(b"%07d" % int(ending[:7]))
        # The line that says what is missing is itself cut the second time.
        assert len(beginning) + int(number) + len(ending) == pytest.approx(len(printed), abs=100)


def test_a_file_that_cannot_be_written_ends_the_copy(log: OutputLog, tmp_path: Path) -> None:
    os.close(log._file)
    log.add(memoryview(b"x"))
    log.add(memoryview(b"x"))


def test_a_forked_child_copies_nothing(log: OutputLog, tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        log.add(b"child")
        log.end()
        os._exit(0)
    os.waitpid(pid, 0)
    log.add(b"parent")
    assert (tmp_path / "output.log").read_bytes() == b"parent"


def test_what_waits_is_written_without_further_output(log: OutputLog, tmp_path: Path) -> None:
    for i in range(1000):
        log.add(LINE % i)
    timer = log._timer
    assert timer is not None
    timer.join()
    assert (tmp_path / "output.log").read_bytes() == b"".join(LINE % i for i in range(1000))
    assert log._timer is None


def test_an_interrupt_while_a_block_is_written_neither_repeats_nor_swallows_it(tmp_path: Path) -> None:
    """SIGINT arrives when the block is in the file, but the copy is not."""

    def interrupt(data: bytes | memoryview) -> None:
        signal.raise_signal(signal.SIGINT)

    with (tmp_path / "printed").open("wb") as target:
        stream = io.BufferedWriter(_CopiedFile(target.fileno(), interrupt, "<stdout>"))
        stream.write(b"a line\n")
        with pytest.raises(KeyboardInterrupt):
            stream.flush()
        stream.raw._written = lambda data: None
        stream.close()
    assert (tmp_path / "printed").read_bytes() == b"a line\n"
