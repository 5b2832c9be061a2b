"""row_losses.bin: the loss of each row of each update, one binary record per step.

The newest steps are kept: when the file has reached half of its bound, it becomes row_losses.older.bin, in place of the
one before. A record is a header and the ids, the summed losses and the numbers of targets of its rows; it is written by
one call before the event of its step, so that after a kill only the last record can be torn.
"""

import contextlib
import errno
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tui_lab.core.runs.run_files import OLDER_ROW_LOSSES, ROW_LOSSES
from tui_lab.core.training.update_rows import UpdateRows
from tui_lab.util import files
from tui_lab.util.errors import RunError

MOST_BYTES = 2**26
"""Of both files together."""
MOST_BYTES_OF_TRIAL = 2**21
"""The same for a trial of a sweep: there may be thousands of them."""
_MAGIC = b"ROW1"
_HEADER = np.dtype([("magic", "S4"), ("crc", "<u4"), ("step", "<i8"), ("loss", "<f8"), ("n", "<i8")])
_NUMBERS = struct.Struct("<qdq")
"""The last three of the header."""
_CHECKED_FROM = 8
"""Bytes before which nothing is in the checksum."""
_ROW_BYTES = 16
_LARGEST_BATCH = 2**20
Array = npt.NDArray[Any]


class RowLog:
    """The row losses of the run in `folder`, in at most `most_bytes` on disk. Reading may happen while it is written.

    One thread writes, by `append`; the others read.
    """

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self.path = folder / ROW_LOSSES
        self.older_path = folder / OLDER_ROW_LOSSES
        self._most_bytes = most_bytes
        self._file: int | None = None
        self._size = 0

    def append(self, rows: UpdateRows) -> OSError | None:
        """Write the rows of an update; return why that was not possible. A part of a record is taken back."""
        record = encode(rows)
        try:
            if self._file is None:
                self._open()
            if self._size and self._size + len(record) > self._most_bytes // 2:
                self._rotate()
            assert self._file is not None
            if os.write(self._file, record) != len(record):
                os.ftruncate(self._file, self._size)
                return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError as error:
            return OSError(error.errno, error.strerror, str(self.path))
        self._size += len(record)
        return None

    def close(self) -> None:
        """Close the file. A later `append` opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> None:
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        self._size = os.fstat(self._file).st_size

    def _rotate(self) -> None:
        self.close()
        self.path.replace(self.older_path)
        self._open()

    def read(self) -> "Records":
        """Return what is kept, without a last record that is torn or not complete yet. Raises RunError, OSError."""
        return self.read_growing().records

    def read_growing(self) -> "Growing":
        """Return what is kept, and where the newer file ends, for `read_after`. Raises RunError, OSError."""
        newer, identity = _content(self.path)
        older, older_identity = _content(self.older_path)
        # While they were read, the newer file may have become the older one.
        blocks = [] if identity == older_identity else self._checked(self.older_path, older, 0)[0]
        newer_blocks, n_bytes = self._checked(self.path, newer, 0)
        return Growing(Records(blocks + newer_blocks), identity, n_bytes, _last_record(newer_blocks))

    def read_after(self, earlier: "Growing") -> "Growing | None":
        """Return what was appended since; None where the log is another one now. Raises RunError, OSError."""
        start = earlier.n_bytes - len(earlier.last_record)
        content, identity = _content(self.path, start)
        if identity != earlier.identity or not content.startswith(earlier.last_record):
            return None
        n_known = len(earlier.last_record)
        blocks, n_bytes = self._checked(self.path, content[n_known:], earlier.n_bytes)
        last_record = _last_record(blocks) or earlier.last_record
        return Growing(Records(blocks), identity, earlier.n_bytes + n_bytes, last_record)

    def _checked(self, path: Path, content: bytes, offset: int) -> "tuple[list[Array], int]":
        """Return the blocks of what a file has from byte `offset` on, and their bytes. Raises RunError for damage."""
        blocks, valid = _blocks(content)
        if _is_damaged(content, valid):
            message = f"damaged at byte {offset + valid:,}; move the file aside to continue without it"
            raise RunError.of("damaged", message, key=str(path))
        return blocks, valid

    def cut(self, step: int) -> None:
        """Drop the records after `step`, and what is damaged. Raises OSError."""
        self.close()
        for path in (self.path, self.older_path):
            content, _ = _content(path)
            end = _end_of(content, step)
            if end < len(content):
                with path.open("r+b") as stream:
                    stream.truncate(end)

    def copy_until(self, step: int, other: "RowLog") -> None:
        """Write the records until `step` to another log, which is empty. Raises OSError."""
        for path, target in ((self.path, other.path), (self.older_path, other.older_path)):
            content, _ = _content(path)
            if end := _end_of(content, step):
                files.write_bytes(target, content[:end])

    def clear(self) -> None:
        """Remove all records."""
        self.close()
        for path in (self.path, self.older_path):
            path.unlink(missing_ok=True)


def encode(rows: UpdateRows) -> bytes:
    """Return the record of an update."""
    body = b"".join(
        (
            _NUMBERS.pack(rows.step, rows.loss, len(rows.ids)),
            rows.ids.tobytes(),
            rows.sums.tobytes(),
            rows.targets.tobytes(),
        )
    )
    return _MAGIC + zlib.crc32(body).to_bytes(4, "little") + body


@dataclass(frozen=True)
class Records:
    """The records of a log in the order of their steps: each block holds updates of one batch size."""

    blocks: list[Array]

    @property
    def steps(self) -> npt.NDArray[np.int64]:
        """The steps that are kept, ascending."""
        return np.concatenate([np.zeros(0, np.int64), *(block["step"] for block in self.blocks)])

    def at(self, step: int) -> UpdateRows | None:
        """Return the rows of a step, or None where they are not kept."""
        for block in self.blocks:
            i = int(np.searchsorted(block["step"], step))
            if i < len(block) and block["step"][i] == step:
                return _update(block[i])
        return None

    def since(self, step: int) -> "Records":
        """Return a copy of the records of `step` and later."""
        parts = (block[np.searchsorted(block["step"], step) :] for block in self.blocks)
        return Records([part.copy() for part in parts if len(part)])

    def losses_between(self, first: int, last: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]]:
        """Yield steps [n] of one batch size with the mean losses of their rows [n, B], NaN where one has no target."""
        for block in self.blocks:
            start, end = np.searchsorted(block["step"], [first, last + 1])
            if start < end:
                part = block[start:end]
                yield part["step"], _means(part["sums"], part["targets"])

    def between(self, first: int, last: int) -> Iterator[UpdateRows]:
        """Yield the rows of the steps `first` … `last` that are kept."""
        for block in self.blocks:
            start, end = np.searchsorted(block["step"], [first, last + 1])
            yield from map(_update, block[start:end])

    def draws_of(self, ids: npt.NDArray[np.int64], before: int) -> list[tuple[int, int, float]]:
        """Return (example, step, mean loss) of each row with one of these ids in the steps before `before`, in order.

        Rows without targets are left out.
        """
        draws: list[tuple[int, int, float]] = []
        for block in self.blocks:
            part = block[: np.searchsorted(block["step"], before)]
            where = np.nonzero(np.isin(part["ids"], ids) & (part["targets"] > 0))
            means = part["sums"][where].astype(np.float64) / part["targets"][where]
            columns = (part["ids"][where], part["step"][where[0]], means)
            draws += zip(*(column.tolist() for column in columns), strict=True)
        return draws


@dataclass(frozen=True)
class Growing:
    """What was read of a log that grows. identity: of the newer file; n_bytes: of its records; last_record: theirs."""

    records: Records
    identity: int | None
    n_bytes: int
    last_record: bytes


def mean_losses(rows: UpdateRows) -> npt.NDArray[np.float64]:
    """Return the mean loss of each row in nats per target [B]; NaN where a row has no target."""
    return _means(rows.sums, rows.targets)


def _means(sums: Array, targets: Array) -> npt.NDArray[np.float64]:
    sums = sums.astype(np.float64)
    return np.divide(sums, targets, out=np.full_like(sums, np.nan), where=targets > 0)


def _last_record(blocks: list[Array]) -> bytes:
    return bytes(blocks[-1][-1:].tobytes()) if blocks else b""


def _update(record: Any) -> UpdateRows:
    return UpdateRows(
        step=int(record["step"]),
        loss=float(record["loss"]),
        ids=record["ids"],
        sums=record["sums"],
        targets=record["targets"],
    )


def _content(path: Path, start: int = 0) -> tuple[bytes, int | None]:
    """Return the bytes of a file from `start` on and its identity; nothing where it is missing or not a regular file.

    Raises OSError.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.is_file():
            with path.open("rb") as stream:
                stream.seek(start)
                return stream.read(), os.fstat(stream.fileno()).st_ino
    return b"", None


def _record_type(n: int) -> np.dtype[Any]:
    return np.dtype([*_HEADER.descr, ("ids", "<i8", (n,)), ("sums", "<f4", (n,)), ("targets", "<f4", (n,))])


def _blocks(content: bytes) -> tuple[list[Array], int]:
    """Return the valid records at the start of `content`, in blocks of one batch size, and how many bytes they take."""
    blocks: list[Array] = []
    position = 0
    last_step = -1
    while len(content) - position >= _HEADER.itemsize:
        header = np.frombuffer(content, _HEADER, 1, position)[0]
        n = int(header["n"])
        size = _HEADER.itemsize + _ROW_BYTES * n
        count = (len(content) - position) // size if 0 <= n <= _LARGEST_BATCH else 0
        if header["magic"] != _MAGIC or count == 0:
            break
        records = np.frombuffer(content, _record_type(n), count, position)
        n_valid = _valid(records, content, position, last_step)
        if n_valid == 0:
            break
        blocks.append(records[:n_valid])
        last_step = int(records["step"][n_valid - 1])
        position += n_valid * size
    return blocks, position


def _valid(records: Array, content: bytes, position: int, last_step: int) -> int:
    """Return how many records from the first on have this layout, the right checksum, and ascending steps."""
    size = records.itemsize
    same = (records["magic"] == _MAGIC) & (records["n"] == records["n"][0])
    count = len(records) if same.all() else int(np.argmin(same))
    ascending = np.diff(records["step"][:count], prepend=last_step) > 0
    count = count if ascending.all() else int(np.argmin(ascending))
    view = memoryview(content)
    for i, crc in enumerate(records["crc"][:count].tolist()):
        start = position + i * size
        if zlib.crc32(view[start + _CHECKED_FROM : start + size]) != crc:
            return i
    return count


def _is_damaged(content: bytes, valid: int) -> bool:
    """Return whether what follows the valid records is more than the beginning of one."""
    tail = content[valid:]
    if len(tail) < _HEADER.itemsize:
        return False
    header = np.frombuffer(tail, _HEADER, 1)[0]
    n = int(header["n"])
    is_header = header["magic"] == _MAGIC and 0 <= n <= _LARGEST_BATCH
    return not is_header or len(tail) >= _HEADER.itemsize + _ROW_BYTES * n


def _end_of(content: bytes, step: int) -> int:
    """Return the byte after the last valid record of `step` or earlier."""
    blocks, _ = _blocks(content)
    return sum(int(np.searchsorted(block["step"], step + 1)) * block.itemsize for block in blocks)
