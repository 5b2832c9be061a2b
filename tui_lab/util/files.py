"""Atomic writes: a reader sees the old or the new file, never half of one, even after a crash."""

import contextlib
import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

TEMPORARY = ".writing-"
REPLACED = f"{TEMPORARY}replaced-"
"""Before the name of a folder while another one takes its place."""


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


def write_text(path: Path, text: str, *, private: bool = False) -> None:
    """Replace the content of `path` by `text`, in UTF-8. private: as for `new_file`. Raises OSError."""
    write_bytes(path, text.encode(), private=private)


def write_bytes(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace the content of `path`. private: as for `new_file`. Raises OSError."""
    with _replaced(path, private=private) as out:
        out.write(content)


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """A temporary file to write to, which becomes `path` when the block ends without an error. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _replaced(path) as out:
        yield out


@contextmanager
def _replaced(path: Path, *, private: bool = False) -> Iterator[BinaryIO]:
    """A temporary file, which becomes `path` when the block ends without an error: fsync, rename, fsync of the folder.

    It has the permissions of the umask, as a file that is opened has; private: only its owner may read it.
    """
    temporary = _temporary(path.parent)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    try:
        with os.fdopen(descriptor, "wb") as out:
            yield out
            out.flush()
            os.fsync(descriptor)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(folder: Path) -> Path:
    """Return a free path in `folder`. Not of `tempfile`, whose files and folders only their owner may read."""
    return folder / f"{TEMPORARY}{secrets.token_hex(8)}"


@contextmanager
def new_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """A temporary folder to fill, which becomes `path` when the block ends without an error.

    replace: whether an existing folder at `path` is replaced, or kept. Raises OSError.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = _temporary(path.parent)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        if replace:
            _replace_folder(path, temporary)
        else:
            try:
                temporary.replace(path)
            except OSError:
                if not path.is_dir():
                    raise
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace_folder(path: Path, new: Path) -> None:
    """Let `new` become `path`, which may exist. After a kill, `sweep_temporaries` restores the old one."""
    old = path.with_name(f"{REPLACED}{path.name}")
    if path.is_symlink():
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(old, ignore_errors=True)
        path.replace(old)
    try:
        new.replace(path)
    except OSError:
        if old.is_dir():
            old.replace(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def remove(path: Path) -> None:
    """Remove a folder or link atomically, if it exists. A folder that cannot be removed is left alone."""
    if path.is_symlink():
        path.unlink(missing_ok=True)
    elif path.exists():
        with contextlib.suppress(OSError):
            temporary = _temporary(path.parent)
            path.replace(temporary)
            shutil.rmtree(temporary, ignore_errors=True)


def sweep_temporaries(folder: Path, older_than: float | None = None) -> None:
    """Remove what killed writers left in `folder`; a folder whose place is still free gets it back.

    older_than: seconds since its last change.
    """
    for leftover in folder.glob(f"{TEMPORARY}*"):
        try:
            age = time.time() - leftover.lstat().st_mtime
        except FileNotFoundError:
            continue
        if older_than is not None and age < older_than:
            continue
        if leftover.is_symlink() or not leftover.is_dir():
            leftover.unlink(missing_ok=True)
        elif (place := _place_of(leftover)) is not None and not os.path.lexists(place):
            leftover.replace(place)
        else:
            shutil.rmtree(leftover, ignore_errors=True)


def _place_of(leftover: Path) -> Path | None:
    """Return where a folder was that another one was to replace; None for any other."""
    is_replaced = leftover.name.startswith(REPLACED)
    return leftover.with_name(leftover.name.removeprefix(REPLACED)) if is_replaced else None
