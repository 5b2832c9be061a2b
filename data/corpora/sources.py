"""Turn `data.path` into an ordered list of files."""

import difflib
import glob
import importlib.resources
import os
from pathlib import Path

from data.errors import DataError

BUNDLED = "bundled"
TEXT_SUFFIXES = (".txt", ".md")


def find_files(path: str) -> tuple[Path, ...]:
    """The files of `path`: "bundled", a file, a folder (its .txt and .md, links not followed) or a glob.

    Sorted by name, so that the corpus is the same on every machine. Raises DataError when there are none.
    """
    if path == BUNDLED:
        return tuple(sorted(Path(str(importlib.resources.files("data.corpora") / "dialogues")).glob("*.txt")))
    expanded = Path(path).expanduser()
    if expanded.is_file():
        return (expanded,)
    if expanded.is_dir():
        found = [
            Path(folder) / name
            for folder, _, names in os.walk(expanded)
            for name in names
            if name.endswith(TEXT_SUFFIXES)
        ]
        what = f"no {' or '.join(TEXT_SUFFIXES)} file in this folder"
    else:
        found = [Path(name) for name in glob.glob(str(expanded), recursive=True) if Path(name).is_file()]
        what = "no such file, folder or glob" + _nearest(expanded)
    if not found:
        raise DataError(f"data.path = {path!r}: {what} (allowed: a text file, a folder, a glob, or {BUNDLED!r})")
    return tuple(sorted(found))


def _nearest(path: Path) -> str:
    folder = path.parent
    names = [BUNDLED, *(os.listdir(folder) if folder.is_dir() else [])]
    close = difflib.get_close_matches(path.name, names, n=1)
    return f"; did you mean {close[0] if close[0] == BUNDLED else folder / close[0]}?" if close else ""
