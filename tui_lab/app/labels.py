"""How the app shows a path, a time, and the process that trains a run."""

import time
from datetime import datetime
from pathlib import Path

from tui_lab.core.runs.lock import Holder

UNITS = (("min", 60, 3600), ("h", 3600, 86400), ("days", 86400, 7 * 86400))
"""Name, seconds, and the age up to which it is used."""


def shown_path(path: Path) -> str:
    """Return the path relative to the current folder, with a leading ./, if it is inside."""
    path = path.absolute()
    return f"./{path.relative_to(Path.cwd())}" if path.is_relative_to(Path.cwd()) else str(path)


def ago(then: float, now: float) -> str:
    """Return how long ago `then` was, both in POSIX seconds; the date if that is more than a week."""
    seconds = max(0.0, now - then)
    if seconds < 60:
        return "now"
    for unit, size, limit in UNITS:
        if seconds < limit:
            return f"{int(seconds / size)} {unit} ago".replace("1 days", "1 day")
    return time.strftime("%Y-%m-%d", time.localtime(then))


def holder_text(holder: Holder, now: float) -> str:
    """Return which process trains a run, and since when."""
    if not holder.pid:
        return holder.command
    try:
        since = datetime.fromisoformat(holder.since).timestamp()
    except ValueError:
        return f"process {holder.pid}"
    started = ago(since, now)
    return f"process {holder.pid} (started {'just ' if started == 'now' else ''}{started})"
