"""Turn `data.path` into an ordered list of files."""

import difflib
import glob
import importlib.resources
import os
from pathlib import Path

from tui_lab.util.errors import DataError

BUNDLED = "bundled"
TEXT_SUFFIXES = (".txt", ".md")
MOST_SHOWN = 200
"""Characters of a path in a message."""
MOST_COMPARED = 1000
"""Names that may be meant."""


def find_files(path: str) -> tuple[Path, ...]:
    """The files of `path`: "bundled", a file, a folder (its .txt and .md, links not followed) or a glob.

    Sorted by name, so that the corpus is the same on every machine. Only regular files are opened: to read a pipe or a
    device may never end. Raises DataError when there are none.
    """
    if path == BUNDLED:
        return tuple(sorted(Path(str(importlib.resources.files("tui_lab.data.corpora") / "dialogues")).glob("*.txt")))
    try:
        expanded = Path(path).expanduser()
        found, what = _found(expanded)
    except (OSError, ValueError, RuntimeError) as error:
        # A name too long or with a NUL in it, a folder that may not be read, the home of a user who is not there.
        why = getattr(error, "strerror", None) or str(error)
        raise DataError(f"data.path = {path[:MOST_SHOWN]!r}: {why}") from error
    if not found:
        raise DataError(f"data.path = {path!r}: {what} (allowed: a text file, a folder, a glob, or {BUNDLED!r})")
    return tuple(sorted(found))


def _found(path: Path) -> tuple[list[Path], str]:
    """The regular files of a path, and what to say where there are none."""
    if path.is_file():
        return [path], ""
    if path.is_dir():
        names = (
            Path(folder) / name
            for folder, _, names in os.walk(path, onerror=_cannot_read)
            for name in names
            if name.endswith(TEXT_SUFFIXES)
        )
        return [name for name in names if name.is_file()], f"no {' or '.join(TEXT_SUFFIXES)} file in this folder"
    if path.exists():
        return [], "this is a pipe, a device or a socket"
    names_of_glob = (Path(name) for name in glob.iglob(str(path), recursive=True))
    return [name for name in names_of_glob if name.is_file()], "no such file, folder or glob" + _nearest(path)


def _cannot_read(error: OSError) -> None:
    """A folder whose names cannot be read is an error, not a part of the corpus that is missing."""
    raise error


def _nearest(path: Path) -> str:
    folder = path.parent
    names = [BUNDLED, *(os.listdir(folder) if folder.is_dir() else [])][:MOST_COMPARED]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {close[0] if close[0] == BUNDLED else folder / close[0]}?" if close else ""
