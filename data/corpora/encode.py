"""Encode a corpus once into a memory-mapped array in the user's cache, in bounded memory."""

import codecs
import contextlib
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from tui_lab.data.corpora.paths import find_files
from tui_lab.data.tokenizers import CharTokenizer, Gpt2Tokenizer, Tokenizer, from_state
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import DataError

T = TypeVar("T")
R = TypeVar("R")
Progress = Callable[[str, int, int], None]
"""Called with what is being done, bytes done, bytes in all."""

READ_BYTES = 2**20
AHEAD = 2
"""Pieces for each thread that are read before they are needed."""
# A text with no white space at all must not grow the buffer for ever: past this it is cut where it stands.
MAX_PIECE = 2**22
_FORMAT = "2"
TEMPORARY = ".encoding-"
SECONDS_TO_ENCODE = 86_400.0
"""A day: whoever has not finished by then was killed."""


@dataclass(frozen=True)
class Corpus:
    """Tokens of one corpus. tokens: uint16 or uint32 [n], memory-mapped."""

    source: str
    tokens: npt.NDArray[Any]
    tokenizer: Tokenizer
    n_bytes: int
    n_replaced: int
    """Characters U+FFFD in the text: what was not valid UTF-8 becomes one."""


def load_corpus(path: str, tokenizer: str, progress: Progress | None = None) -> Corpus:
    """The tokens of `path` ("bundled", file, folder or glob) by "gpt2" or "char"; encoded on the first call.

    Raises DataError when the path holds no text or cannot be read.
    """
    report = progress or (lambda what, done, total: None)
    files = find_files(path)
    try:
        before = _stamps(files)
        total = sum(size for _, size in before)
        if total == 0:
            raise DataError(f"data.path = {path!r}: the text is empty")
        folder = cache_folder() / "tokens" / _key(files, tokenizer, total, report)
        meta = _read_meta(folder)
        if meta is None:
            shutil.rmtree(folder, ignore_errors=True)
            _encode(files, tokenizer, folder, total, report, lambda: _check_unchanged(path, files, before))
            meta = json.loads((folder / "meta.json").read_text("utf-8"))
        tokens = np.memmap(folder / "tokens.bin", dtype=meta["dtype"], mode="r") if meta["n_tokens"] else None
    except OSError as error:
        raise DataError(f"data.path = {path!r}: {error.strerror}: {error.filename}") from error
    if tokens is None:
        raise DataError(f"data.path = {path!r}: the text is empty")
    return Corpus(path, tokens, from_state(meta["tokenizer"]), total, meta["n_replaced"])


def _stamps(files: tuple[Path, ...]) -> list[tuple[int, int]]:
    """When each file was last written, in ns, and its size in bytes."""
    return [(status.st_mtime_ns, status.st_size) for status in (file.stat() for file in files)]


def _check_unchanged(path: str, files: tuple[Path, ...], before: list[tuple[int, int]]) -> None:
    """Raises DataError for a text that was written to: its tokens are cached under the hash of what it was."""
    for file, was, now in zip(files, before, _stamps(files), strict=True):
        if was != now:
            raise DataError(f"data.path = {path!r}: {file} changed while it was read; try again when it is whole")


def _read_meta(folder: Path) -> dict[str, Any] | None:
    """What meta.json says, or None where the cached tokens are absent or damaged."""
    try:
        meta: dict[str, Any] = json.loads((folder / "meta.json").read_text("utf-8"))
        whole = (folder / "tokens.bin").stat().st_size == meta["n_tokens"] * np.dtype(meta["dtype"]).itemsize
        return meta if whole else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(files: tuple[Path, ...], tokenizer: str, total: int, report: Progress) -> str:
    digest, done = hashlib.sha256(f"{_FORMAT} {tokenizer}".encode()), 0
    for file in files:
        size = file.stat().st_size
        digest.update(b"\0%d\0" % size)
        for chunk in _chunks(file, size):
            digest.update(chunk)
            done += len(chunk)
            report("hashing", done, total)
    return digest.hexdigest()[:32]


def _encode(
    files: tuple[Path, ...], name: str, folder: Path, total: int, report: Progress, check: Callable[[], None]
) -> None:
    """Write tokens.bin and meta.json into a temporary folder, then rename it to `folder` unless `check` raises."""
    tokenizer: Tokenizer = Gpt2Tokenizer() if name == "gpt2" else CharTokenizer(_alphabet(files, total, report))
    dtype = "uint16" if tokenizer.n_vocab <= 2**16 else "uint32"
    folder.parent.mkdir(parents=True, exist_ok=True)
    _sweep(folder.parent)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=folder.parent))

    def encoded(text: str) -> tuple[bytes, int]:
        ids = tokenizer.encode_compact(text) if isinstance(tokenizer, Gpt2Tokenizer) else tokenizer.encode(text)
        return ids.astype(dtype).tobytes(), text.count("\ufffd")

    try:
        n_bytes = n_replaced = 0
        with (temporary / "tokens.bin").open("wb") as out:
            for ids, replaced in in_parallel(encoded, _pieces(files, total, functools.partial(report, "encoding"))):
                out.write(ids)
                n_bytes += len(ids)
                n_replaced += replaced
        meta = {
            "dtype": dtype,
            "n_tokens": n_bytes // np.dtype(dtype).itemsize,
            "n_replaced": n_replaced,
            "tokenizer": tokenizer.state(),
        }
        (temporary / "meta.json").write_text(json.dumps(meta), "utf-8")
        check()
        try:
            os.rename(temporary, folder)
        except OSError:
            # Another process has encoded the same text meanwhile; its result is as good as ours.
            if not (folder / "meta.json").exists():
                raise
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Remove what killed writers left; another process may be at work on a young one."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        with contextlib.suppress(OSError):
            if time.time() - leftover.stat().st_mtime > SECONDS_TO_ENCODE:
                shutil.rmtree(leftover, ignore_errors=True)


def _chunks(file: Path, size: int) -> Iterator[bytes]:
    """The first `size` bytes: a file that grows as fast as it is read, or that has no end, is no reason to go on."""
    with file.open("rb") as stream:
        while size > 0 and (chunk := stream.read(min(READ_BYTES, size))):
            size -= len(chunk)
            yield chunk


def _alphabet(files: tuple[Path, ...], total: int, report: Progress) -> str:
    """Every character of the text beyond ASCII."""
    letters: set[str] = set()
    for text in _pieces(files, total, functools.partial(report, "reading")):
        if not text.isascii():
            letters.update(text)
    return "".join(letters)


def in_parallel(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Results in the order of `items`, from as many threads as there are cores; few items are held at a time."""
    workers = os.cpu_count() or 1
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _pieces(files: tuple[Path, ...], total: int, report: Callable[[int, int], None]) -> Iterator[str]:
    """The text in pieces whose encodings, joined, equal the encoding of the whole file."""
    done = 0
    for file in files:
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
    """Where `text` may be cut with the same tokens either way: before a blank that follows a non-blank.

    GPT-2's pattern never joins a token across such a place. 0 when there is none yet.
    """
    end = len(text) - 1
    # Only these four: Python's isspace() knows more than the pattern's \\s does (U+001C to U+001F).
    while end > 0 and not (text[end] in " \n\r\t" and not text[end - 1].isspace()):
        end -= 1
    return end if end > 0 else (len(text) if len(text) >= MAX_PIECE else 0)
