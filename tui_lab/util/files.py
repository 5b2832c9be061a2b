"""Write files so that a reader sees the old or the new one, whole, whatever happens in between."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".writing-"


def read_text(path: Path, limit: int) -> str:
    """The UTF-8 text of a regular file of at most `limit` bytes. Raises OSError, or ValueError for any other file."""
    if path.exists() and not path.is_file():
        raise ValueError("not a regular file")
    with path.open("rb") as stream:
        found = stream.read(limit + 1)
    if len(found) > limit:
        raise ValueError(f"longer than {limit:,} bytes, which no file of this kind is")
    return found.decode("utf-8")


def advice(error: OSError) -> str:
    """What went wrong with which file, and what the person can do about it."""
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            cure = "make room there"
        case errno.EROFS | errno.EACCES | errno.EPERM:
            cure = "make the folder writable"
        case errno.ENOENT | errno.ESTALE | errno.ENOTDIR:
            cure = "put the folder back"
        case _:
            cure = "see to it"
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}; {cure}"


def sync(path: Path) -> None:
    """Force a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace `path` by `text`, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace `path` by `content`: temporary file, fsync, rename, fsync of the folder."""
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
    """A temporary file to write bytes to, which becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            # mkstemp lets the owner alone read; what is exported is for whom the person's umask says.
            os.fchmod(descriptor, 0o666 & ~_umask())
            yield out
            out.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` when the block ends well. Raises OSError."""
    path.parent.mkdir(exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    try:
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        remove(path)
        temporary.replace(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a folder or link, if it is there; a reader never meets half of it. What cannot be removed stays."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    elif path.exists():
        with contextlib.suppress(OSError):
            doomed = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
            path.replace(doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed writer left in `folder`."""
    for leftover in folder.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
