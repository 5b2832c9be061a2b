"""Permission to run user code: only files that the user named on the command line or in the app, unchanged since.

A config or a run folder can come from anybody, and its `model.source` is a program. A file that the user names is
remembered in the user's cache by its absolute path and the hash of its content, so that the user's own configs and
runs need no further question. What the file imports is trusted with it.
"""

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path

from tui_lab.core.user_code.import_file import split_source
from tui_lab.util import files
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

MAX_BYTES = 2**20
"""Of the file of hashes; a larger one is damaged."""


def allow(source: str) -> None:
    """Trust FILE.py of `source`, FILE.py:NAME, as it is now.

    Raises ConfigError if the file is missing or the cache cannot be written.
    """
    path, digest = _identity(source)
    trusted = _trusted()
    if trusted.get(path) == digest:
        return
    store = _store()
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(store, json.dumps(trusted | {path: digest}, indent=1, sort_keys=True), private=True)
    except OSError as error:
        message = f"cannot remember that you trust {path}: {error.strerror}; set TUI_LAB_CACHE to a writable folder"
        raise ConfigError.of("unwritable", message, value=str(store)) from error


def allow_named(overrides: Iterable[str]) -> None:
    """Trust the file that a KEY=VALUE override names as `model.source`. Raises ConfigError as `allow` does."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key.strip() == "model.source" and value.strip(" \"'"):
            allow(value.strip(" \"'"))


def is_allowed(source: str) -> bool:
    """Return whether the user trusted FILE.py of `source` with its present content. Raises ConfigError if missing."""
    path, digest = _identity(source)
    return _trusted().get(path) == digest


def untrusted(source: str) -> str:
    """Return `source` if it would run a file that the user does not trust; "" if not, or if there is no such file."""
    try:
        return "" if not source or is_allowed(source) else source
    except ConfigError:
        return ""


def require(source: str) -> None:
    """Raise ConfigError with code "not_trusted" unless the user trusts the file, or "not_found" if it is missing."""
    if is_allowed(source):
        return
    changed = _identity(source)[0] in _trusted()
    which = "that has changed since you trusted it" if changed else "that you have not trusted yet"
    raise ConfigError.of(
        "not_trusted",
        f"this would run a Python file {which} on this machine; if you trust it, pass --allow-code "
        "or name it with --set model.source=FILE.py:NAME",
        key="model.source",
        value=source,
    )


def _identity(source: str) -> tuple[str, str]:
    """Return the file's absolute path without links, and the SHA-256 of its content."""
    file = split_source(source)[0]
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError.of("unreadable", str(error.strerror), value=str(file)) from error
    return os.path.realpath(file), hashlib.sha256(content).hexdigest()


def _store() -> Path:
    return cache_folder() / "trusted.json"


def _trusted() -> dict[str, str]:
    """Return the remembered hashes by path; none if the file is missing or damaged."""
    try:
        hashes = json.loads(files.read_text(_store(), MAX_BYTES))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(hashes, dict):
        return {}
    return {path: digest for path, digest in hashes.items() if isinstance(digest, str)}
