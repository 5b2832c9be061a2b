"""How the path of a user's file is shown."""

import os
from functools import lru_cache
from pathlib import Path

_FOLDER = Path.cwd()
"""The current folder before the user's code runs, which may change it."""


@lru_cache(maxsize=1024)
def shown_file(file: str) -> str:
    """Return the path of a file as seen from the folder in which the command was started, if it is in there."""
    path = Path(os.path.abspath(_FOLDER / file))
    return str(path.relative_to(_FOLDER)) if path.is_relative_to(_FOLDER) else str(path)


def real_file(shown: str) -> str:
    """Return the path of a file from what `shown_file` returned."""
    return str(_FOLDER / shown)
