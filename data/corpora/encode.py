"""Encode a corpus once into a memory-mapped array in the user's cache, using bounded memory."""

import codecs
import functools
import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import Field, TypeAdapter

from tui_lab.data import plugin_tokenizers
from tui_lab.data.corpora.paths import find_files
from tui_lab.data.dataset import ReportProgress
from tui_lab.data.tokenizers import CharTokenizer, Gpt2Tokenizer, Tokenizer, from_state
from tui_lab.util import files
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
OWN = ("gpt2", "char")
"""The tokenizers of a text that tui-lab itself has; others are those of plug-ins."""
READ_BYTES = 2**20
AHEAD = 2
"""Pieces per thread that are read before they are needed."""
MAX_PIECE = 2**22
"""Characters. A text without white space is cut here, to bound the buffer."""
_FORMAT = "2"
MAX_ENCODING_SECONDS = 86_400.0
"""A day: a process that has not finished by then was killed."""


@dataclass(frozen=True)
class Corpus:
    """The tokens of one corpus. tokens: uint16 or uint32 [n], memory-mapped."""

    source: str
    tokens: npt.NDArray[Any]
    tokenizer: Tokenizer
    n_bytes: int
    n_replaced: int
    """Characters U+FFFD in the text, which replace bytes that are not UTF-8."""


@dataclass(frozen=True)
class _Meta:
    """The content of meta.json, next to the cached tokens."""

    dtype: Literal["uint16", "uint32"]
    n_tokens: Annotated[int, Field(strict=True, ge=0)]
    n_replaced: Annotated[int, Field(strict=True, ge=0)]
    tokenizer: dict[str, Any]


_META = TypeAdapter(_Meta)


def load_corpus(path: str, tokenizer: str, progress: ReportProgress | None = None) -> Corpus:
    """Return the tokens of `path` ("bundled", file, folder or glob) by "gpt2", "char" or the tokenizer of a plug-in.

    They are encoded on the first call. Raises DataError when the path has no text or cannot be read, PluginError.
    """
    report = progress or (lambda what, done, total: None)
    paths = find_files(path)
    try:
        before = _stamps(paths)
        total = sum(size for _, size in before)
        if total == 0:
            raise _empty(path)
        folder = cache_folder() / "tokens" / _key(paths, tokenizer, total, report)
        meta = _read_meta(folder)
        if meta is None:
            shutil.rmtree(folder, ignore_errors=True)
            _encode(paths, tokenizer, folder, total, report, lambda: _check_unchanged(path, paths, before))
            meta = _META.validate_json((folder / "meta.json").read_bytes())
        tokens = np.memmap(folder / "tokens.bin", dtype=meta.dtype, mode="r") if meta.n_tokens else None
    except OSError as error:
        raise DataError.of("unreadable", f"{error.strerror}: {error.filename}", key="data.path", value=path) from error
    if tokens is None:
        raise _empty(path)
    return Corpus(path, tokens, from_state(meta.tokenizer), total, meta.n_replaced)


def _empty(path: str) -> DataError:
    return DataError.of("invalid", "the text is empty", key="data.path", value=path)


def _stamps(paths: tuple[Path, ...]) -> list[tuple[int, int]]:
    """Return the modification time of each file, in ns, and its size in bytes."""
    return [(status.st_mtime_ns, status.st_size) for status in (path.stat() for path in paths)]


def _check_unchanged(path: str, paths: tuple[Path, ...], before: list[tuple[int, int]]) -> None:
    """Raises DataError for a text that changed: its tokens would be cached under the hash of the old text."""
    for file, old, new in zip(paths, before, _stamps(paths), strict=True):
        if old != new:
            raise DataError.of(
                "unreadable", f"{file} changed while it was read; try again", key="data.path", value=path
            )


def _read_meta(folder: Path) -> _Meta | None:
    """Return the content of meta.json, or None where the cached tokens are missing or damaged."""
    try:
        meta = _META.validate_json((folder / "meta.json").read_bytes())
        is_complete = (folder / "tokens.bin").stat().st_size == meta.n_tokens * np.dtype(meta.dtype).itemsize
        return meta if is_complete else None
    except (OSError, ValueError):
        return None


def _key(paths: tuple[Path, ...], tokenizer: str, total: int, report: ReportProgress) -> str:
    """Return the name of the cache entry: a hash of the tokenizer and the text."""
    origin = "" if tokenizer in OWN else f" of {plugin_tokenizers.origin(tokenizer)}"
    digest = hashlib.sha256(f"{_FORMAT} {tokenizer}{origin}".encode())
    done = 0
    for file in paths:
        size = file.stat().st_size
        digest.update(b"\0%d\0" % size)
        for chunk in _chunks(file, size):
            digest.update(chunk)
            done += len(chunk)
            report("hashing", done, total)
    return digest.hexdigest()[:32]


def _encode(
    paths: tuple[Path, ...], name: str, folder: Path, total: int, report: ReportProgress, check: Callable[[], None]
) -> None:
    """Write tokens.bin and meta.json into `folder`, unless `check` raises.

    Where another process has encoded the same text meanwhile, its files are kept.
    """
    tokenizer = _tokenizer(name, paths, total, report)
    dtype: Literal["uint16", "uint32"] = "uint16" if tokenizer.n_vocab <= 2**16 else "uint32"
    folder.parent.mkdir(parents=True, exist_ok=True)
    files.sweep_temporaries(folder.parent, older_than=MAX_ENCODING_SECONDS)

    def encoded(text: str) -> tuple[bytes, int]:
        ids = tokenizer.encode_compact(text) if isinstance(tokenizer, Gpt2Tokenizer) else tokenizer.encode(text)
        return ids.astype(dtype).tobytes(), text.count("\ufffd")

    with files.new_folder(folder, replace=False) as temporary:
        n_bytes = 0
        n_replaced = 0
        with (temporary / "tokens.bin").open("wb") as out:
            pieces = _pieces(paths, total, functools.partial(report, "encoding"))
            # Those of plug-ins need not allow calls from several threads.
            for ids, replaced in in_parallel(encoded, pieces) if name in OWN else map(encoded, pieces):
                out.write(ids)
                n_bytes += len(ids)
                n_replaced += replaced
        meta = _Meta(dtype, n_bytes // np.dtype(dtype).itemsize, n_replaced, tokenizer.state())
        (temporary / "meta.json").write_text(json.dumps(asdict(meta)), "utf-8")
        check()


def _tokenizer(name: str, paths: tuple[Path, ...], total: int, report: ReportProgress) -> Tokenizer:
    """Return the tokenizer of a text. Raises PluginError."""
    if name == "gpt2":
        return Gpt2Tokenizer()
    if name == "char":
        return CharTokenizer(_alphabet(paths, total, report))
    return plugin_tokenizers.from_text(name, _pieces(paths, total, functools.partial(report, "reading")))


def _chunks(file: Path, size: int) -> Iterator[bytes]:
    """Yield the first `size` bytes of a file, which may be growing."""
    with file.open("rb") as stream:
        while size > 0 and (chunk := stream.read(min(READ_BYTES, size))):
            size -= len(chunk)
            yield chunk


def _alphabet(paths: tuple[Path, ...], total: int, report: ReportProgress) -> str:
    """Return the characters of the text that are not ASCII."""
    letters: set[str] = set()
    for text in _pieces(paths, total, functools.partial(report, "reading")):
        if not text.isascii():
            letters.update(text)
    return "".join(letters)


def in_parallel(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Yield the results in the order of `items`, computed by a thread per core; few items are in memory at a time."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _pieces(paths: tuple[Path, ...], total: int, report: Callable[[int, int], None]) -> Iterator[str]:
    """Yield the text in pieces whose encodings, concatenated, equal the encoding of the whole file."""
    done = 0
    for file in paths:
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        pending = ""
        for raw in _chunks(file, file.stat().st_size):
            done += len(raw)
            pending += decoder.decode(raw)
            cut = safe_cut(pending)
            if cut:
                yield pending[:cut]
                pending = pending[cut:]
            report(done, total)
        pending += decoder.decode(b"", final=True)
        if pending:
            yield pending


def safe_cut(text: str) -> int:
    """Return the last index where cutting `text` does not change its tokens, or 0 where there is none yet.

    This is before a blank that follows a non-blank, since no match of GPT-2's pattern spans such a place.
    """
    end = len(text) - 1
    # Only these four: Python's isspace() also accepts U+001C to U+001F, which \\s in the pattern does not.
    while end > 0 and not (text[end] in " \n\r\t" and not text[end - 1].isspace()):
        end -= 1
    return end if end > 0 else (len(text) if len(text) >= MAX_PIECE else 0)
