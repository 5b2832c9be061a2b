"""Where this machine keeps what belongs to no run: tokens, a quick measurement, whose Python the person has allowed."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """`TUI_LAB_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("TUI_LAB_CACHE") or platformdirs.user_cache_path("tui-lab"))
