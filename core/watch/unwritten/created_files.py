"""Files that a script creates while it trains, for the next run of it, which must not find them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tui_lab.util.json_lines import read_lines
from tui_lab.util.strict_json import dumps


class CreatedFiles:
    """Lists the files and folders that this process creates in its current folder once the training has begun.

    What it creates before, such as a download or a tokenized text, is for all runs of the script. list_path: the file
    for the list. has_trained: whether an update has been made. apart: a folder that is not listed.
    """

    def __init__(self, list_path: str, has_trained: Callable[[], bool], apart: str) -> None:
        self._list_path = list_path
        self._has_trained = has_trained
        self._folder = os.path.join(os.path.realpath(os.getcwd()), "")
        self._apart = os.path.join(os.path.realpath(apart), "")

    def add(self, path: str) -> None:
        """Take the absolute path of what has been created."""
        is_listed = path.startswith(self._folder) and not path.startswith(self._apart)
        if is_listed and self._has_trained():
            with open(self._list_path, "a", encoding="utf-8") as lines:
                lines.write(dumps({"path": path.removeprefix(self._folder)}) + "\n")


def created_files(list_path: Path, folder: Path) -> list[str]:
    """Return what a process has listed and is still there: files, and folders with a slash without what is in them."""
    if not list_path.exists():
        return []
    paths = dict.fromkeys(str(record["path"]) for record in read_lines(list_path))
    there = [path for path in paths if os.path.lexists(folder / path)]
    outermost = [path for path in there if not any(os.fspath(each) in paths for each in Path(path).parents)]
    return [f"{path}/" if (folder / path).is_dir() else path for path in outermost]


def move_created_files(list_path: Path, folder: Path, target: Path) -> None:
    """Move what a process has listed from the `folder` in which it ran into `target`; delete the list. Raises OSError.

    A file that is in `target` already stays there, and gets a number before its name in the moved one.
    """
    if not list_path.exists():
        return
    for record in read_lines(list_path):
        source = folder / str(record["path"])
        if os.path.lexists(source):
            _move(source, target / str(record["path"]))
    list_path.unlink()


def _move(source: Path, target: Path) -> None:
    if source.is_dir() and target.is_dir():
        for entry in list(source.iterdir()):
            _move(entry, target / entry.name)
        source.rmdir()
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    number = 1
    free = target
    while os.path.lexists(free):
        number += 1
        free = target.with_name(f"{number}-{target.name}")
    shutil.move(source, free)
