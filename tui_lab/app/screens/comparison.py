"""Runs beside each other: their curves, what differs in their settings, what they say to one prompt."""

from pathlib import Path

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.containers import HorizontalScroll, Vertical, VerticalScroll
from textual.widgets import DataTable, Input, Static

from tui_lab.app.screens.run_table import LETTERS, STYLES, short
from tui_lab.app.session.messages import ReplyStarted, ReplyText
from tui_lab.app.session.multi_run_generation import MultiRunGeneration, Prompt
from tui_lab.app.session.run_curves import Curves
from tui_lab.app.widgets.chart import Chart, Curve, Dot
from tui_lab.app.widgets.input import Field
from tui_lab.app.widgets.table import Table
from tui_lab.core.config import settings
from tui_lab.core.inference.sampling import Sampling
from tui_lab.core.runs.catalog import RunRow, config_differences
from tui_lab.util.errors import ConfigError
from tui_lab.util.escape import printable

Marked = list[tuple[int, RunRow]]
COLUMN = 30
"""Columns of a run's words, at least: with more runs than fit one scrolls."""


class Overlaid(Vertical):
    """The loss of every marked run over its updates."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.options = {"log": False, "validation": False}
        self._shown: list[tuple[int, str, Curves | None]] = []
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="legend-of-runs")
        yield Chart(id="overlay")

    def show(self, runs: list[tuple[int, str, Curves | None]]) -> None:
        """Letter, name and curves of each; None: not read yet."""
        self._shown = runs
        news = (runs, tuple(self.options.values()))
        if news == self._drawn:
            return
        self._drawn = (list(runs), tuple(self.options.values()))
        self._draw()

    def toggle(self, option: str) -> None:
        self.options[option] = not self.options[option]
        self.show(self._shown)

    def _draw(self) -> None:
        which = "val" if self.options["validation"] else "train"
        text, curves, dots = Text(no_wrap=True, overflow="ellipsis"), [], []
        for mark, name, found in self._shown:
            points = getattr(found, which) if found else ()
            style, letter = STYLES[mark], LETTERS[mark]
            last = (
                f" {points[-1][1]:.4g}" if points else (" …" if found is None else f" {found.problem or 'no data yet'}")
            )
            # No line may part a letter from its name.
            named = f"{short(name, 24)}{last}".replace(" ", "\xa0")
            text.append(f"{letter}\xa0", f"bold {style}").append(f"{named}  ", style)
            curves.append(Curve(letter, points, style))
            if points:
                x, y = points[-1]
                dots.append(Dot(x, y, f"bold {style}", letter))
        words = "validation loss" if which == "val" else "mean train loss"
        about = f"{words}, {'log' if self.options['log'] else 'linear'} (x y)  "
        if not self._shown:
            text.append("Space marks runs; their loss curves are shown here", "dim")
        self.query_one("#legend-of-runs", Static).update(Text.assemble((about, "dim"), text))
        self.query_one(Chart).draw(curves, dots=dots, log=self.options["log"])


class Differences(VerticalScroll):
    """The settings that are not the same in all, a column a run; of one run, what it has other than the defaults."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="same")
        yield Table[Text](id="differing", cursor_type="row")

    def show(self, runs: Marked) -> None:
        differing = config_differences(row for _, row in runs)
        drawn = ([(mark, row.name) for mark, row in runs], differing)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        table = self.query_one("#differing", DataTable)
        table.clear(columns=True)
        table.add_column(Text("setting"))
        for mark, row in runs:
            table.add_column(Text(f"{LETTERS[mark]} {short(row.name, 26)}", f"bold {STYLES[mark]}"))
        for key, values in differing.items():
            table.add_row(Text(key), *(Text(_value(value)) for value in values))
        known = sum(row.config is not None for _, row in runs)
        if len(runs) < 2:
            said = "mark two or more runs with Space to diff their settings"
        elif known < len(runs):
            said = f"{len(differing)} settings differ; {len(runs) - known} configs are unreadable"
        else:
            said = f"{len(differing)} of {len(settings.fields())} settings differ" if differing else "same settings"
        self.query_one("#same", Static).update(Text(said, "dim"))


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else printable(str(value))


class Voices(Vertical):
    """One prompt, a column for what each run says to it."""

    def __init__(self, generation: MultiRunGeneration, id: str) -> None:
        super().__init__(id=id)
        self._generation = generation
        self._runs: Marked = []
        self._said: dict[Path, Text] = {}
        self._columns: list[tuple[int, Path]] = []
        self._filled = False

    def compose(self) -> ComposeResult:
        yield Field("SOCRATES: What is ", id="one-prompt", placeholder="prompt for all marked runs")
        yield HorizontalScroll(id="columns")

    def focus_prompt(self) -> None:
        self.query_one(Input).focus()

    def show(self, runs: Marked) -> None:
        """A column for each; what was said before stays with its run."""
        self._runs = runs
        if not self._filled and runs and (config := runs[0][1].config) is not None:
            self._filled = True
            if config.data.task == "reverse":
                digits = "0123456789abcdefghijklmnopqrstuvwxyz"
                self.query_one(Input).value = "".join(
                    digits[(3 * i + 1) % config.data.n_digits] for i in range(config.data.length)
                )
        columns = [(mark, row.path) for mark, row in runs]
        if columns != self._columns:
            self._columns = columns
            self._build(runs)

    @work(exclusive=True, group="columns")
    async def _build(self, runs: Marked) -> None:
        box = self.query_one("#columns", HorizontalScroll)
        await box.remove_children()
        made = []
        for mark, row in runs:
            title = Text.assemble((f"{LETTERS[mark]} {short(row.name, 26)}", f"bold {STYLES[mark]}"))
            words = Static(self._said.get(row.path, Text()), classes=f"of-{mark}")
            column = Vertical(
                Static(title, id=f"voice-{mark}"), VerticalScroll(words, can_focus=False), classes="voice"
            )
            column.styles.min_width = COLUMN
            made.append(column)
        await box.mount(*made)

    @on(Input.Submitted)
    def _ask(self, event: Input.Submitted) -> None:
        """All marked runs, one after the other; likeliest tokens for digits, drawn ones for text."""
        event.stop()
        if not event.value:
            self.notify("the prompt is empty; type at least one character", severity="warning")
            return
        try:
            sampling = Sampling(0.0 if event.value.isalnum() else 0.8, 0, 1.0, 0)
        except ConfigError as error:
            self.notify(str(error), severity="error")
            return
        self._said = {row.path: Text("…", "dim") for _, row in self._runs}
        self._generation.start(Prompt(event.value, sampling), [row.path for _, row in self._runs])
        self._write(set(self._said))

    def hear(self) -> None:
        """Show what was generated since the last call."""
        changed = set()
        for message in self._generation.drain():
            run = message.run
            if run not in self._said:
                continue
            changed.add(run)
            if isinstance(message, ReplyStarted):
                self._said[run] = Text(f"{message.weights}\n", "dim")
            elif isinstance(message, ReplyText):
                self._said[run].append(message.text, "not dim")
            elif message.error is not None:
                self._said[run] = Text(f"✗ {printable(message.error)}", "bold")
        self._write(changed)

    def _write(self, changed: set[Path]) -> None:
        for mark, path in self._columns:
            if path in changed:
                for words in self.query(f".of-{mark}").results(Static):
                    words.update(self._said[path])
