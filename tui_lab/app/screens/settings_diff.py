"""The settings that differ between runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.widgets import DataTable, Static

from tui_lab.app.screens.run_marks import MarkedRun
from tui_lab.app.session.run_curves import LossCurves
from tui_lab.app.widgets.table import Table
from tui_lab.core.config import settings
from tui_lab.runs.live_changes import SettingsDiff, settings_diff
from tui_lab.runs.names import short_name
from tui_lab.util.escape import printable

LEAST_COLUMN_WIDTH = 16
"""Of a run; longer values have several lines."""
GAP = 2
"""Columns around a value."""
LETTER_WIDTH = 2


class DiffView(VerticalScroll):
    """A row per setting that differs or was changed live, a column per run."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self._content: tuple[Sequence[MarkedRun], Mapping[Path, LossCurves]] | None = None
        self._drawn: object = None

    def compose(self) -> ComposeResult:
        yield Static(id="same")
        yield Table[Text](id="differing", cursor_type="row")

    def on_resize(self) -> None:
        if self._content is not None:
            self.show_runs(*self._content)

    def show_runs(self, runs: Sequence[MarkedRun], curves: Mapping[Path, LossCurves]) -> None:
        """Compare the settings of the runs; `curves` has their live changes, as far as they are read."""
        self._content = (runs, curves)
        diff = settings_diff(
            [run.row for run in runs],
            [curves[run.row.path].changes if run.row.path in curves else () for run in runs],
        )
        settings_width = max(map(len, diff.different), default=0)
        needed = [
            max(LETTER_WIDTH + len(run.row.name), *(len(texts[i]) for texts in diff.different.values()), 0)
            for i, run in enumerate(runs)
        ]
        widths = column_widths(needed, self.size.width - settings_width - GAP * (len(runs) + 1))
        drawn = ([(run.mark, run.row.name) for run in runs], diff, widths)
        if drawn == self._drawn:
            return
        self._drawn = drawn
        table = self.query_one("#differing", DataTable)
        table.clear(columns=True)
        table.display = bool(diff.different)
        table.add_column(Text("setting"))
        for run, width in zip(runs, widths, strict=True):
            name = short_name(run.row.name, width - LETTER_WIDTH)
            table.add_column(Text(f"{run.mark.letter} {name}", f"bold {run.mark.style}"), width=width)
        for key, values in diff.different.items():
            table.add_row(Text(key), *(Text(printable(value)) for value in values), height=None)
        self.query_one("#same", Static).update(Text(_summary(runs, diff), "dim"))


def column_widths(needed: Sequence[int], free: int) -> list[int]:
    """Return as many columns as each run needs, or, where that is too much, an equal share of those that are left."""
    widths = list(needed)
    for n_done, i in enumerate(sorted(range(len(needed)), key=needed.__getitem__)):
        widths[i] = min(needed[i], max(LEAST_COLUMN_WIDTH, free // (len(needed) - n_done)))
        free -= widths[i]
    return widths


def _summary(runs: Sequence[MarkedRun], diff: SettingsDiff) -> str:
    """Return how many settings differ, and how many were changed live."""
    if len(runs) < 2:
        hint = "mark two or more runs with Space to diff their settings"
        return f"{diff.changes_text}; {hint}" if diff.n_changes else hint
    compared = _compared(runs, diff.n_different)
    if not diff.n_changes:
        return compared
    return (
        f"{compared} at the start, {diff.changes_text}" if not diff.n_different else f"{compared}, {diff.changes_text}"
    )


def _compared(runs: Sequence[MarkedRun], n_different: int) -> str:
    n_unreadable = sum(run.row.config is None for run in runs)
    if n_unreadable:
        return f"{n_different} settings differ; {n_unreadable} configs are unreadable"
    if not n_different:
        return "same settings"
    if any(run.row.kind == "script" for run in runs):
        return "1 setting differs" if n_different == 1 else f"{n_different} settings differ"
    return f"{n_different} of {len(settings.fields())} settings differ"
