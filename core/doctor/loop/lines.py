"""Which line of the user's code makes the present call."""

import os
import sys
import sysconfig
from functools import lru_cache
from pathlib import Path
from types import FrameType

import tui_lab

_PACKAGE = Path(tui_lab.__file__).resolve().parent
_NOT_USER_CODE = tuple(
    str(folder) + os.sep
    for folder in (
        _PACKAGE,
        # `tui_lab.core` and `tui_lab.data` may be links to folders elsewhere.
        *(path.resolve() for path in (_PACKAGE / "core", _PACKAGE / "data")),
        sysconfig.get_path("stdlib"),
        sysconfig.get_path("purelib"),
        sysconfig.get_path("platlib"),
    )
)


def user_line() -> str:
    """Return the innermost line outside torch, other installed packages and tui-lab, "train.py:42"; "" if none."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if is_user_code(file):
            return f"{os.path.basename(file)}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


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
