"""What `tui-lab lr-find` shows while it tests: a chart on a terminal, lines in a log, JSON, or nothing."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.text import Text

from tui_lab.cli.output import say, write_json
from tui_lab.text.plot import Plot
from tui_lab.text.plot_text import plot_text
from tui_lab.text.rate_text import RangeCurve, drawing_of, progress_line, suggested, waiting_line

MOST_LINES = 18
LINES_BELOW = 10
"""Of a terminal, for the result."""
REFRESHES_PER_SECOND = 8
LINES_PER_TEST = 10


class Progress:
    """Shows nothing."""

    def begin(self, curves: Sequence[RangeCurve]) -> None:
        """Show that a test begins, after those of `curves`. Its first point may take long."""

    def shorten(self, n_rates: int) -> None:
        """Show that the last test is repeated with fewer rates."""

    def add(self, curves: Sequence[RangeCurve]) -> None:
        """Show the newest point of the last one of `curves`."""


class JsonProgress(Progress):
    """A line of JSON for each point."""

    def add(self, curves: Sequence[RangeCurve]) -> None:
        curve = curves[-1]
        write_json({"event": "rate", "seed": curve.seed, "lr": curve.rates[-1], "loss": curve.losses[-1]})


class LogProgress(Progress):
    """A line on stderr for some of the points."""

    def __init__(self, n_rates: int) -> None:
        self._n_rates = n_rates

    def shorten(self, n_rates: int) -> None:
        self._n_rates = n_rates
        say(shortened_line(n_rates))

    def add(self, curves: Sequence[RangeCurve]) -> None:
        done = len(curves[-1].rates)
        if done % max(1, self._n_rates // LINES_PER_TEST) == 0:
            say(progress_line(curves[-1], self._n_rates))


class ChartProgress(Progress):
    """A chart that is drawn again a few times a second; the time before the first point is counted below it."""

    def __init__(self, live: Live, n_rates: int) -> None:
        self._live = live
        self._n_rates = n_rates
        self._drawn_at = 0.0
        self._latest: list[RangeCurve] = []

    def shorten(self, n_rates: int) -> None:
        self._n_rates = n_rates
        self._latest = []
        self._live.console.print(shortened_line(n_rates))

    def begin(self, curves: Sequence[RangeCurve]) -> None:
        above = [self._chart(curves)] if curves else []
        self._live.update(Group(*above, _Waiting()), refresh=True)

    def add(self, curves: Sequence[RangeCurve]) -> None:
        self._latest = list(curves)
        if self._live.console.get_time() - self._drawn_at >= 1 / REFRESHES_PER_SECOND:
            self._drawn_at = self._live.console.get_time()
            self.draw()

    def draw(self) -> None:
        """Draw all points so far."""
        if self._latest:
            line = Text(progress_line(self._latest[-1], self._n_rates), no_wrap=True)
            self._live.update(Group(self._chart(self._latest), line), refresh=True)

    def _chart(self, curves: Sequence[RangeCurve]) -> Text:
        terminal = self._live.console
        suggestions = suggested(curves)
        height = max(6, min(MOST_LINES, terminal.height - LINES_BELOW))
        drawing = drawing_of(curves, suggestions[0].lr if suggestions else None)
        return plot_text(
            Plot(drawing, terminal.width - 1, height, None, use_braille=terminal.encoding.startswith("utf"))
        )


def shortened_line(n_rates: int) -> str:
    """Return why a test is repeated."""
    return f"the script ends before the highest rate; testing again with --rates {n_rates}"


class _Waiting:
    """The seconds since it was made."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began_at = clock()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        line: RenderableType = Text(waiting_line(self._clock() - self._began_at), no_wrap=True)
        yield line


@contextmanager
def shown_progress(n_rates: int) -> Iterator[Progress]:
    """Draw the chart on stderr if it is a terminal; print some of the points elsewhere."""
    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        yield LogProgress(n_rates)
        return
    with Live(console=terminal, refresh_per_second=2) as live:
        chart = ChartProgress(live, n_rates)
        yield chart
        chart.draw()
