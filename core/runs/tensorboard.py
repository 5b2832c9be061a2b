"""TensorBoard event files, written without TensorFlow.

A file is a sequence of TFRecords (tensorflow/core/lib/io/record_writer.h): the length as uint64, its masked CRC-32C,
the data, its masked CRC-32C, all little-endian. The data are `Event` messages (tensorflow/core/util/event.proto) in
protobuf's wire format, of which they need four field types.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import BinaryIO

POLYNOMIAL = 0x82F63B78
"""Castagnoli's polynomial, bits reversed (RFC 3720, appendix B.4)."""
MASK = 0xA282EAD8
"""Added to a CRC that is stored with its data."""
VERSION = "brain.Event:2"
DT_STRING = 7


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of RFC 3720."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def _table() -> tuple[int, ...]:
    table = []
    for crc in range(256):
        for _ in range(8):
            crc = (crc >> 1) ^ POLYNOMIAL if crc & 1 else crc >> 1
        table.append(crc)
    return tuple(table)


_TABLE = _table()


def masked(crc: int) -> int:
    """Return a CRC as TFRecord stores it."""
    return (((crc >> 15) | (crc << 17)) + MASK) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """Return one TFRecord with `data`."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked(crc32c(length))) + data + struct.pack("<I", masked(crc32c(data)))


def write_events(out: BinaryIO, events: Iterable[bytes], wall_time: float) -> None:
    """Write an event file: the version, then `events` from `scalars` and `text`."""
    out.write(record(_double(1, wall_time) + _bytes(3, VERSION.encode())))
    for event in events:
        out.write(record(event))


def scalars(step: int, wall_time: float, values: Mapping[str, float]) -> bytes:
    """Return an Event with one simple value per tag."""
    return _event(step, wall_time, (_bytes(1, tag.encode()) + _float(2, value) for tag, value in values.items()))


def text(step: int, wall_time: float, tag: str, markdown: str) -> bytes:
    """Return an Event for TensorBoard's text page: a tensor of one string, and the name of the plugin."""
    shape = _bytes(2, _varint(1, 1))
    tensor = _varint(1, DT_STRING) + _bytes(2, shape) + _bytes(8, markdown.encode())
    metadata = _bytes(1, _bytes(1, b"text"))
    return _event(step, wall_time, [_bytes(1, tag.encode()) + _bytes(9, metadata) + _bytes(8, tensor)])


def _event(step: int, wall_time: float, values: Iterable[bytes]) -> bytes:
    summary = b"".join(_bytes(1, value) for value in values)
    return _double(1, wall_time) + _varint(2, step) + _bytes(5, summary)


def _varint(field: int, value: int) -> bytes:
    return _number(field << 3) + _number(value)


def _double(field: int, value: float) -> bytes:
    return _number(field << 3 | 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _number(field << 3 | 2) + _number(len(value)) + value


def _float(field: int, value: float) -> bytes:
    try:
        packed = struct.pack("<f", value)
    except OverflowError:
        packed = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    return _number(field << 3 | 5) + packed


def _number(value: int) -> bytes:
    """Return a varint: seven bits per byte, the lowest first; the top bit is set unless it is the last byte."""
    return bytes(_groups(value))


def _groups(value: int) -> Iterator[int]:
    while value > 0x7F:
        yield value & 0x7F | 0x80
        value >>= 7
    yield value
