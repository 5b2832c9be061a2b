"""The settings that differ between runs."""

from collections.abc import Sequence

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Static

from tui_lab.app.screens.run_columns import short
from tui_lab.app.screens.run_marks import MarkedRun
from tui_lab.app.widgets.table import Table
from tui_lab.core.config import settings
from tui_lab.core.runs.catalog import config_differences
from tui_lab.util.escape import printable

NAME_WIDTH = 26


class DiffView(VerticalScroll):
    """A row per setting that differs, a column per run. Of a single run: the settings that are not the defaults."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="same")
        yield Table[Text](id="differing", cursor_type="row")

    def show_runs(self, runs: Sequence[MarkedRun]) -> None:
        differences = config_differences(run.row for run in runs)
        drawn = ([(run.mark, run.row.name) for run in runs], differences)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        table = self.query_one("#differing", DataTable)
        table.clear(columns=True)
        table.add_column(Text("setting"))
        for run in runs:
            table.add_column(Text(f"{run.mark.letter} {short(run.row.name, NAME_WIDTH)}", f"bold {run.mark.style}"))
        for key, values in differences.items():
            table.add_row(Text(key), *(Text(_format(value)) for value in values))
        self.query_one("#same", Static).update(Text(_summary(runs, len(differences)), "dim"))


def _summary(runs: Sequence[MarkedRun], n_different: int) -> str:
    n_unreadable = sum(run.row.config is None for run in runs)
    if len(runs) < 2:
        return "mark two or more runs with Space to diff their settings"
    if n_unreadable:
        return f"{n_different} settings differ; {n_unreadable} configs are unreadable"
    if not n_different:
        return "same settings"
    if any(run.row.kind == "script" for run in runs):
        return "1 setting differs" if n_different == 1 else f"{n_different} settings differ"
    return f"{n_different} of {len(settings.fields())} settings differ"


def _format(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "–" if value is None else printable(str(value))
