"""What the app remembers of its look from one start to the next: the theme and the layout of the panes."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

from tui_lab.app.panes.layout import Name
from tui_lab.util import files
from tui_lab.util.cache import cache_folder

MAX_BYTES = 2**16
"""Of the file; a larger one is not ours."""


@dataclass
class Preferences:
    """theme: a name of Textual's; empty for the default."""

    theme: str = ""
    layout: Name = "overview"


def _path() -> Path:
    return cache_folder() / "app.json"


def load() -> Preferences:
    """Return what was saved last; the defaults for a missing or damaged file."""
    preferences = Preferences()
    try:
        if _path().stat().st_size > MAX_BYTES:
            return preferences
        saved = json.loads(_path().read_text("utf-8"))
    except (OSError, ValueError):
        return preferences
    if not isinstance(saved, dict):
        return preferences
    if isinstance(saved.get("theme"), str):
        preferences.theme = saved["theme"]
    if saved.get("layout") in get_args(Name):
        preferences.layout = saved["layout"]
    return preferences


def save(preferences: Preferences) -> None:
    """Save; a look that cannot be remembered is not a reason to disturb the user."""
    path = _path()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(asdict(preferences)))
    except OSError:
        return
