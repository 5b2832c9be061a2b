"""How the app shows the end of a run and a path."""

from pathlib import Path

ENDINGS = {"target": "stopped: reached the target loss", "patience": "stopped early: no improvement"}
"""Reasons of a Stopped event that are not shown as they are."""


def ending_name(reason: str) -> str:
    """Return how the `reason` of a Stopped event is shown."""
    return ENDINGS.get(reason, reason)


def shown_path(path: Path) -> str:
    """Return the path relative to the current folder, with a leading ./, if it is inside."""
    path = path.absolute()
    return f"./{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else str(path)
