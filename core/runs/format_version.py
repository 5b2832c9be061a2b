"""format.json: the versions of a run folder and of its event log, so that a reader knows what it cannot read."""

import contextlib
import json
from pathlib import Path

from tui_lab.core.runs.run_files import FORMAT
from tui_lab.util import contracts, files
from tui_lab.util.errors import RunError

LARGEST = 2**12
"""Bytes."""
_OURS = {"run_folder": contracts.RUN_FOLDER, "events": contracts.EVENTS}


def stored(folder: Path) -> dict[str, int]:
    """Return the versions of a run folder; 0 where it does not say, as before there were versions."""
    try:
        content = json.loads(files.read_text(folder / FORMAT, LARGEST))
    except (OSError, ValueError, RecursionError):
        content = {}
    values = content if isinstance(content, dict) else {}
    return {name: value if type(value := values.get(name)) is int else 0 for name in _OURS}


def require_readable(folder: Path) -> None:
    """Raise RunError for a run folder that a newer tui-lab has written in a format that this one does not know."""
    for name, version in stored(folder).items():
        if version > _OURS[name]:
            what = "run folder" if name == "run_folder" else "event log"
            raise RunError.of(
                "unavailable",
                f"a newer tui-lab wrote this {what}; install that version to read it",
                key=str(folder / FORMAT),
                value=version,
                allowed=f"versions up to {_OURS[name]}",
            )


def write(folder: Path) -> None:
    """Write our versions. Raises OSError."""
    files.write_text(folder / FORMAT, json.dumps(_OURS) + "\n")


def update(folder: Path) -> None:
    """Write our versions into the folder of an older run, which is about to be continued in our format."""
    require_readable(folder)
    if stored(folder) != _OURS:
        with contextlib.suppress(OSError):  # A full disk: the run itself will say so.
            write(folder)
