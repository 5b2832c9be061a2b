"""Two runs of a script, compared while the screen waits: whether they are the same, and why not."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding
from textual.screen import ModalScreen
from textual.widgets import Static

from tui_lab.app.clipboard import copy
from tui_lab.app.session.script_comparison import Compared, ComparisonMessage, RunBegins
from tui_lab.app.textual_fixes.base_screen import BaseScreen
from tui_lab.app.widgets.scrolled import Page
from tui_lab.app.widgets.static_text import update_text
from tui_lab.core.watch.randomness.verdict import STEPS
from tui_lab.text.randomness_text import sources_table, verdict_lines
from tui_lab.util.escape import printable

SECONDS_BETWEEN_TICKS = 0.2


class Comparison(Protocol):
    """Compares the runs; the app calls every method from its own thread."""

    def start(self) -> None:
        """Begin."""
        ...

    def drain(self) -> Sequence[ComparisonMessage]:
        """Return the messages since the last call, in order."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class RandomnessScreen(BaseScreen[None], ModalScreen[None]):
    """Shows which run is made, then the result. name: of the script."""

    CSS_PATH = "help.tcss"
    BINDINGS = [
        Binding("escape,q,enter", "dismiss(None)", "Close"),
        Binding("y", "copy", "Copy", show=False),
    ]

    def __init__(self, name: str, comparison: Comparison, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._script = name
        self._comparison = comparison
        self._clock = clock
        self._began_at = 0.0
        self._run = RunBegins(1, "first run")
        self.result: Compared | None = None

    def compose(self) -> ComposeResult:
        with Page(id="page"):
            yield Static(id="result")
            yield Static(id="sources")

    def on_mount(self) -> None:
        page = self.query_one("#page")
        page.border_title = f"Two runs of {printable(self._script)}"
        page.border_subtitle = "y copy · Esc close"
        page.focus()
        self._began_at = self._clock()
        self._comparison.start()
        self.set_interval(SECONDS_BETWEEN_TICKS, self.tick)
        self.tick()

    def on_unmount(self) -> None:
        self._comparison.close()

    def tick(self) -> None:
        """Show what has happened since the last tick."""
        if self.result is not None:
            return
        for message in self._comparison.drain():
            match message:
                case RunBegins():
                    self._run = message
                case Compared():
                    self.result = message
        update_text(self.query_one("#result", Static), self._text(), layout=True)
        if self.result is not None and self.result.verdict is not None:
            self.query_one("#sources", Static).update(sources_table(self.result.verdict))

    def _text(self) -> Text:
        if self.result is None:
            seconds = int(self._clock() - self._began_at)
            run = f"run {self._run.number}: {self._run.purpose}"
            return Text(f"{run} · {STEPS} updates, from the script's first line on · {seconds} s", "dim")
        if self.result.verdict is None:
            return Text(printable(self.result.error), "bold")
        first, *others = map(printable, verdict_lines(self._script, self.result.verdict))
        return Text("\n").join([Text(first, "bold"), *map(Text, others)])

    def action_copy(self) -> None:
        copy(self.app, self._text().plain)
