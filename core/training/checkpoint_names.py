"""What the folder of a checkpoint says without its content: its step, its size, and whether it was saved by hand."""

import re
from pathlib import Path

from tui_lab.util.errors import RunError

BY_HAND = "by-hand"
"""An empty file in a checkpoint that stays until the user removes it."""


def name_of(step: int) -> str:
    return f"step-{step:08d}"


def step_of(path: Path) -> int:
    """Return the step in the name of a checkpoint, also of a copy; 0 if there is none."""
    match = re.match(r"step-(\d+)", path.name)
    return int(match[1]) if match else 0


def is_by_hand(path: Path) -> bool:
    """Return whether the user asked for the checkpoint at `path`."""
    return not path.is_symlink() and (path / BY_HAND).is_file()


def keep(path: Path) -> None:
    """Let the checkpoint at `path` stay, as one that the user asked for. Raises RunError."""
    try:
        (path / BY_HAND).touch()
    except OSError as error:
        raise RunError.of("unwritable", f"this checkpoint cannot be kept: {error.strerror}", key=str(path)) from error


def n_bytes(path: Path) -> int:
    """Return the size of a checkpoint on disk, a file with two names counted once; 0 once it is removed."""
    try:
        sizes = {(stat.st_dev, stat.st_ino): stat.st_size for stat in map(Path.lstat, path.iterdir())}
        return sum(sizes.values())
    except OSError:
        return 0
