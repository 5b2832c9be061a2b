"""Where output goes: a command's own output to stdout, and what the user's code prints to stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TextIO

_own: TextIO | None = None
"""The stdout of the command that runs, while sys.stdout is redirected."""


def stdout() -> TextIO:
    """The stream for a command's own output. Whatever a command prints must be written here, not to sys.stdout."""
    return sys.stdout if _own is None else _own


@contextmanager
def user_prints_to_stderr() -> Iterator[None]:
    """Send to stderr what anything but `stdout()` writes, such as a print in a user's model: it would break --json.

    It decorates the commands that may run a user's code.
    """
    global _own
    outer = _own
    _own = stdout()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _own = outer
