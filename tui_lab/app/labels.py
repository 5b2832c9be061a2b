"""How the app shows a path."""

from pathlib import Path


def shown_path(path: Path) -> str:
    """Return the path relative to the current folder, with a leading ./, if it is inside."""
    path = path.absolute()
    return f"./{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else str(path)
