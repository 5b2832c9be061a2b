"""Which line of the user's code makes the present call, or defines a module."""

import inspect
import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import tui_lab

if TYPE_CHECKING:  # This module is imported before the user's code, which torch may have to follow.
    from torch import nn

_PACKAGE = Path(tui_lab.__file__).resolve().parent
# `tui_lab.core` and `tui_lab.data` may be links to folders elsewhere.
_OWN_FOLDERS = (_PACKAGE, *(path.resolve() for path in (_PACKAGE / "core", _PACKAGE / "data")))
_OWN_CODE = tuple(str(folder) + os.sep for folder in _OWN_FOLDERS)
_NOT_USER_CODE = tuple(
    str(folder) + os.sep
    for folder in (
        *_OWN_FOLDERS,
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    )
)


_FOLDER = Path.cwd()
"""The current folder before the user's code runs, which may change it."""


def user_line() -> str:
    """Return the innermost line outside torch, other installed packages and tui-lab, "src/train.py:42"; "" if none.

    The file is relative to the folder in which the command was started, if it is in there.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if is_user_code(file):
            return f"{shown_file(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def class_line(model: "nn.Module", name: str) -> str:
    """Return the line that defines the class of the innermost user's module that contains `name`, or is it; or ""."""
    parts = name.split(".") if name else []
    for n in range(len(parts), -1, -1):
        kind = type(model.get_submodule(".".join(parts[:n])))
        try:
            file, (_, line) = inspect.getsourcefile(kind), inspect.getsourcelines(kind)
        except (OSError, TypeError):  # Its source is not known, such as of a class that exec() made.
            continue
        if file is not None and is_user_code(file):
            return f"{shown_file(file)}:{line}"
    return ""


@lru_cache(maxsize=1024)
def shown_file(file: str) -> str:
    """Return the path of a file as seen from the folder in which the command was started, if it is in there."""
    path = Path(os.path.abspath(_FOLDER / file))
    return str(path.relative_to(_FOLDER)) if path.is_relative_to(_FOLDER) else str(path)


def is_own_code(file: str) -> bool:
    """Return whether `file` is one of tui-lab's."""
    return os.path.realpath(file).startswith(_OWN_CODE)


@lru_cache(maxsize=1024)
def is_user_code(file: str) -> bool:
    """Return whether `file` is one of the user's, and not of Python, of an installed package or of tui-lab."""
    if file.startswith("<"):
        return False
    path = os.path.realpath(file)
    if "site-packages" in path or path.startswith(_NOT_USER_CODE):
        return False
    return not any(_holds_packages(folder) for folder in Path(path).parents)


@lru_cache(maxsize=1024)
def _holds_packages(folder: Path) -> bool:
    """Return whether packages were installed into the folder, as `pip install --target` does."""
    return any(folder.glob("*.dist-info"))
