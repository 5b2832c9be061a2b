"""Turn `data.path` into an ordered list of files."""

import glob
import importlib.resources
import os
from pathlib import Path

from tui_lab.util.errors import DataError, nearest

BUNDLED = "bundled"
TEXT_SUFFIXES = (".txt", ".md")
MAX_COMPARED = 1000
"""Names of a folder that are searched for a suggestion."""


def find_files(path: str) -> tuple[Path, ...]:
    """Return the files of `path`: "bundled", a file, a folder (its .txt and .md, links not followed) or a glob.

    They are sorted by name, so that the corpus is the same on every machine. Only regular files count, since reading a
    pipe or device might never end. Raises DataError when there are none.
    """
    if path == BUNDLED:
        return tuple(sorted(Path(str(importlib.resources.files("tui_lab.data.corpora") / "dialogues")).glob("*.txt")))
    try:
        expanded = Path(path).expanduser()
        files, reason = _regular_files(expanded)
    except (OSError, ValueError, RuntimeError) as error:
        # A name that is too long or has a NUL, an unreadable folder, the home of an unknown user.
        message = getattr(error, "strerror", None) or str(error)
        raise DataError.of("unreadable", message, key="data.path", value=path) from error
    if not files:
        raise DataError.of(
            "not_found",
            reason,
            key="data.path",
            value=path,
            allowed=f"a text file, a folder, a glob, or {BUNDLED!r}",
            suggestion=_similar(expanded),
        )
    return tuple(sorted(files))


def _regular_files(path: Path) -> tuple[list[Path], str]:
    """Return the regular files of a path, and the reason why there are none."""
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
        return [], "is a pipe, a device or a socket"
    names_of_glob = (Path(name) for name in glob.iglob(str(path), recursive=True))
    return [name for name in names_of_glob if name.is_file()], "no such file, folder or glob"


def _cannot_read(error: OSError) -> None:
    """Raise the error of an unreadable folder, which os.walk would skip."""
    raise error


def _similar(path: Path) -> str:
    """Return the most similar name in the folder of `path`, or ""."""
    if path.exists():
        return ""
    folder = path.parent
    names = [BUNDLED, *(os.listdir(folder) if folder.is_dir() else [])][:MAX_COMPARED]
    name = nearest(path.name, names, cutoff=0.6)
    return name if name in ("", BUNDLED) else str(folder / name)
