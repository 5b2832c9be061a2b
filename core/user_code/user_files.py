"""Which source files are the user's, and not of Python, of an installed package or of tui-lab."""

import os
import sysconfig
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

_PACKAGE = Path(str(files("tui_lab"))).resolve()
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
