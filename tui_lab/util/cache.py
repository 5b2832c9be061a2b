"""The user's folders for what belongs to no run: a cache (encoded corpora, kernel timings, trusted files), a config."""

import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """`TUI_LAB_CACHE`, or the user's cache folder."""
    return Path(os.environ.get("TUI_LAB_CACHE") or platformdirs.user_cache_path("tui-lab"))


def config_folder() -> Path:
    """`TUI_LAB_CONFIG`, or the user's config folder."""
    return Path(os.environ.get("TUI_LAB_CONFIG") or platformdirs.user_config_path("tui-lab"))
