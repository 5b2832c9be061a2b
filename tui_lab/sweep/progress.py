"""Views of a sweep in progress: a live table on a terminal, plain lines in a log, or nothing."""

from collections.abc import Callable, Sequence
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.text import Text

from tui_lab.core.runs.sweep.folder import ENDED, Plan, TrialRow
from tui_lab.sweep import table


class View(Protocol):
    def __enter__(self) -> "View": ...
    def __exit__(self, *error: object) -> None: ...
    def show(self, rows: Sequence[TrialRow], ended: Sequence[TrialRow]) -> None:
        """Show all `rows`; `ended` are those that have ended since the last call."""

    def note(self, text: str) -> None:
        """Show a line that stays."""


class Silent:
    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def show(self, rows: Sequence[TrialRow], ended: Sequence[TrialRow]) -> None:
        return None

    def note(self, text: str) -> None:
        return None


class Lines(Silent):
    """A line for each trial that ends, for logs and pipes."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        self._plan = plan
        self._say = say

    def show(self, rows: Sequence[TrialRow], ended: Sequence[TrialRow]) -> None:
        before = sum(row.state in ENDED for row in rows) - len(ended)
        for count, row in enumerate(ended, before + 1):
            self._say(f"[{count}/{len(rows)}] {table.ended_line(self._plan, row)}")

    def note(self, text: str) -> None:
        self._say(text)


class LiveTable:
    """The table of the trials, redrawn at every call."""

    def __init__(self, plan: Plan, console: Console) -> None:
        self._plan = plan
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> "LiveTable":
        self._live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._live.stop()

    def show(self, rows: Sequence[TrialRow], ended: Sequence[TrialRow]) -> None:
        self._live.update(table.live_table(self._plan, rows, self._console.height), refresh=True)

    def note(self, text: str) -> None:
        self._live.console.print(Text(text))  # Above the table.
