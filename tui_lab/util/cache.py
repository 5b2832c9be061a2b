"""The cache folder, for data that belongs to no run: encoded corpora, kernel timings, trusted files."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """`TUI_LAB_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("TUI_LAB_CACHE") or platformdirs.user_cache_path("tui-lab"))
