"""The check that runs now and the time since the first one, on a terminal."""

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tui_lab.util.escape import printable


class CheckProgress:
    """A context manager that draws a line on stderr from the first check on, and removes it at the end.

    is_shown: whether it may. It draws nothing where stderr is not a terminal.
    """

    def __init__(self, *, is_shown: bool) -> None:
        self._is_shown = is_shown and sys.stderr.isatty()
        self._bar = Progress(
            SpinnerColumn("line"),
            TextColumn("examining: {task.description}"),
            TimeElapsedColumn(),
            transient=True,
            console=Console(file=sys.stderr),
            refresh_per_second=4,
        )
        self._task = self._bar.add_task("", start=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_shown:  # Rich would print an empty line where there is no terminal.
            self._bar.stop()

    def show(self, check: str) -> None:
        """A check begins."""
        if self._is_shown:
            self._bar.start()
            self._bar.start_task(self._task)
            self._bar.update(self._task, description=printable(check))
