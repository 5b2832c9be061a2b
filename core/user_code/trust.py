"""Whose Python may run: only files that the person named, in this command or in an earlier one on this machine.

A config or a run folder can come from anybody, and its `model.source` is a program. Files are remembered by their whole
path in the person's own cache, so that one's own runs go on without a question.
"""

import json
import os
from collections.abc import Iterable

from tui_lab.core.user_code.import_file import split_source
from tui_lab.util import files
from tui_lab.util.cache import cache_folder
from tui_lab.util.errors import ConfigError

LIMIT = 2**20
_here: set[str] = set()
"""Named in this process; where the cache cannot be written, all that is known."""
_everything = False


class CodeNotAllowed(ConfigError):
    """A config would run a file that nobody here has named."""

    def __init__(self, source: str) -> None:
        self.source = source
        super().__init__(
            [f"model.source = {source!r}: it would run this Python file, which you have not named on this machine; "
             "where you trust it, say --allow-code, or name it: --set model.source=FILE.py:NAME"]
        )  # fmt: skip


def allow(source: str) -> None:
    """Remember FILE.py of FILE.py:NAME as named by the person. Raises ConfigError where it is absent."""
    path = _path(source)
    _here.add(path)
    remembered = _remembered()
    if path in remembered:
        return
    store = cache_folder() / "allowed.json"
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(store, json.dumps(sorted(remembered | {path}), indent=1))
    except OSError:
        pass


def allow_named(overrides: Iterable[str]) -> None:
    """Allow the file that a KEY=VALUE override names as the model's source."""
    for override in overrides:
        key, _, value = override.partition("=")
        if key.strip() == "model.source" and value.strip(" \"'"):
            allow(value.strip(" \"'"))


def allow_everything() -> None:
    """The person takes whatever file this process's config names: --allow-code."""
    global _everything
    _everything = True


def allowed(source: str) -> bool:
    """Whether FILE.py of `source` was named by the person."""
    path = _path(source)
    return path in _here or path in _remembered()


def unnamed(source: str) -> str:
    """`source` if it would run a file that the person has not named; "" too where there is no such file to run."""
    try:
        return "" if not source or allowed(source) else source
    except ConfigError:
        return ""


def require(source: str) -> None:
    """Raises CodeNotAllowed, or ConfigError where there is no such file."""
    if _everything:
        allow(source)
    if not allowed(source):
        raise CodeNotAllowed(source)


def _path(source: str) -> str:
    return os.path.realpath(split_source(source)[0])


def _remembered() -> set[str]:
    try:
        found = json.loads(files.read_text(cache_folder() / "allowed.json", LIMIT))
    except (OSError, ValueError, RecursionError):
        return set()
    return {path for path in found if isinstance(path, str)} if isinstance(found, list) else set()
