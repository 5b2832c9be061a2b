"""Atomic writes: a reader sees the old or the new file, never half of one, even after a crash."""

import contextlib
import errno
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".writing-"


def read_text(path: Path, limit: int) -> str:
    """Return the UTF-8 text of a regular file of at most `limit` bytes. Raises OSError or ValueError."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    with path.open("rb") as stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"longer than {limit:,} bytes")
    return content.decode("utf-8")


def advice(error: OSError) -> str:
    """Return a message for an OSError: the file, what is wrong, and what the user can do."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            remedy = "free some disk space"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            remedy = "make the folder writable"
        case errno.ENOENT | errno.ESTALE | errno.ENOTDIR:
            remedy = "restore the folder"
        case _:
            remedy = "check the disk"
    place = f"{error.filename}: " if error.filename else ""
    return f"{place}{error.strerror or error}; {remedy}"


def sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace the content of `path` by `text`, in UTF-8. Raises OSError."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace the content of `path`: temporary file, fsync, rename, fsync of the folder. Raises OSError."""
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary file to write to, which becomes `path` when the block ends without an error. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            # mkstemp makes files private; an exported file gets the permissions of the user's umask.
            os.fchmod(descriptor, 0o666 & ~umask())
            yield out
            out.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def umask() -> int:
    """Return the permissions that the user's new files do not get."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@contextmanager
def new_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` when the block ends without an error.

    replace: whether an existing `path` is replaced, or kept. Raises OSError.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    try:
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        if replace:
            remove(path)
        try:
            temporary.replace(path)
        except OSError:
            if replace or not path.is_dir():
                raise
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a folder or link atomically, if it exists. A folder that cannot be removed is left alone."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    elif path.exists():
        with contextlib.suppress(OSError):
            temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
            path.replace(temporary)
            shutil.rmtree(temporary, ignore_errors=True)


def sweep_temporaries(folder: Path, older_than: float | None = None) -> None:
    """Remove what killed writers left in `folder`. older_than: seconds since its last change."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        try:
            age = time.time() - leftover.lstat().st_mtime
        except FileNotFoundError:
            continue
        if older_than is not None and age < older_than:
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
