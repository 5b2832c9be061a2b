"""Write what a command prints: results to stdout, diagnostics to stderr, prints of user code to stderr too."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO

from tui_lab.util.escape import printable
from tui_lab.util.strict_json import dumps

if TYPE_CHECKING:
    from rich.console import Console

_command_stdout: TextIO | None = None
"""The stdout of the running command, while sys.stdout is redirected to stderr."""


def stdout() -> TextIO:
    """Return the stream for a command's results. Commands write to it, never to sys.stdout."""
    return sys.stdout if _command_stdout is None else _command_stdout


@contextmanager
def user_prints_to_stderr() -> Iterator[None]:
    """Redirect sys.stdout to stderr, so that a print in a user's model does not break --json.

    Decorates every command that may run user code. `stdout()` still returns the original stream.
    """
    global _command_stdout
    outer = _command_stdout
    _command_stdout = stdout()
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        _command_stdout = outer


def write(text: str) -> None:
    """Write one or more lines to stdout, control characters escaped."""
    stdout().write(f"{printable(text)}\n")


def write_title(text: str) -> None:
    """Write an empty line and a bold title of trusted text to stdout."""
    from rich.text import Text

    write("")
    console().print(Text(text, "bold"), soft_wrap=True)


def write_json(value: Any, indent: int | None = None) -> None:
    """Write `value` to stdout as JSON, on one line unless `indent` is given. Flushes, so that a pipe can follow."""
    stdout().write(dumps(value, indent) + "\n")
    stdout().flush()


def write_figures(figures: dict[str, Any], *, as_json: bool, indent: str = "") -> None:
    """Write nested figures as JSON, or as one line per figure."""
    if as_json:
        write_json(figures)
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            stdout().write(f"{indent}{name}\n")
            write_figures(value, as_json=False, indent=indent + "  ")
        else:
            numbers = value if isinstance(value, list) else [value]
            text = " … ".join(f"{n:.4g}" if isinstance(n, float) else str(n) for n in numbers)
            stdout().write(f"{indent}{name.replace('_', ' ')}: {text}\n")


def say(text: str) -> None:
    """Write a line of diagnostics to stderr, control characters escaped."""
    sys.stderr.write(f"{printable(text)}\n")
    sys.stderr.flush()


def console(*, width: int | None = None) -> "Console":
    """Return a rich console that writes to `stdout()`."""
    from tui_lab.cli.pipe_console import PipeConsole

    return PipeConsole(file=stdout(), width=width, highlight=False)
