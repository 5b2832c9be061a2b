"""The settings that differ between runs, and the verdict about them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Thread

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.message import Message
from textual.widgets import DataTable, Static

from tui_lab.app.screens.runs.marks import MarkedRun
from tui_lab.app.session.run_curves import LossCurves
from tui_lab.app.widgets.table import Table
from tui_lab.core.config import settings
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.compare_groups import compare_groups
from tui_lab.core.runs.start_difference import code_difference
from tui_lab.runs.code_text import code_diff_text
from tui_lab.runs.live_changes import SettingsDiff, settings_diff
from tui_lab.runs.names import short_name
from tui_lab.runs.verdict_text import verdict_line
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.escape import printable
from tui_lab.util.plural import counted

LEAST_COLUMN_WIDTH = 16
"""Of a run; longer values have several lines."""
GAP = 2
"""Columns around a value."""
LETTER_WIDTH = 2
MOST_STEPS = 200_000
"""Of the compared runs together; reading the events of more would take many seconds."""


ONLY_SEEDS = "the runs differ only in their seed, so there is no verdict"


class DiffView(VerticalScroll):
    """A row per setting that differs or was changed live, a column per run."""

    class Judged(Message):
        """The verdict about some runs. judged: the runs and their states."""

        def __init__(self, text: Text, judged: object) -> None:
            super().__init__()
            self.text = text
            self.judged = judged

    def __init__(self, id: str) -> None:
        super().__init__(id=id, can_focus=False)
        self._content: tuple[Sequence[MarkedRun], Mapping[Path, LossCurves]] | None = None
        self._drawn: object = None
        self._judged: object = None
        """The runs of the verdict that is shown or computed."""
        self.judging: Thread | None = None

    def compose(self) -> ComposeResult:
        yield Static(id="same")
        yield Static(id="verdict")
        yield Table[Text](id="differing", cursor_type="row")

    def on_resize(self) -> None:
        if self._content is not None:
            self.show_runs(*self._content)

    def show_runs(self, runs: Sequence[MarkedRun], curves: Mapping[Path, LossCurves]) -> None:
        """Compare the settings of the runs; `curves` has their live changes, as far as they are read."""
        self._content = (runs, curves)
        self._show_verdict([run.row for run in runs])
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

    def _show_verdict(self, rows: Sequence[RunRow]) -> None:
        """Judge the runs once in a thread: again when others are compared or one ends, not while one trains."""
        judged = [(row.path, row.state) for row in rows]
        if judged == self._judged:
            return
        self._judged = judged
        verdict = self.query_one("#verdict", Static)
        verdict.display = len(rows) > 1
        if len(rows) < 2:
            return
        if sum(row.steps for row in rows) > MOST_STEPS:
            verdict.update(Text("for a verdict about such long runs: tui-lab runs compare", "dim"))
            return
        verdict.update(Text("comparing …", "dim"))
        self.judging = Thread(target=self._judge, args=(rows, judged), name="verdict", daemon=True)
        self.judging.start()

    def _judge(self, rows: Sequence[RunRow], judged: object) -> None:
        try:
            lines = [verdict_line(comparison) for comparison in compare_groups(rows)] or [ONLY_SEEDS]
            lines += [_code_line(rows, row) for row in rows[1:]]
        except (ConfigError, RunError, OSError) as error:
            lines = [str(error)]
        except Exception as error:
            lines = [f"the runs cannot be compared: {error!r}"]
        text = printable("\n".join(filter(None, lines)))
        self.post_message(self.Judged(Text(text), judged))

    @on(Judged)
    def _show_judged(self, message: Judged) -> None:
        message.stop()
        if message.judged == self._judged:
            self.query_one("#verdict", Static).update(message.text)


def column_widths(needed: Sequence[int], free: int) -> list[int]:
    """Return as many columns as each run needs, or, where that is too much, an equal share of those that are left."""
    widths = list(needed)
    for n_done, i in enumerate(sorted(range(len(needed)), key=needed.__getitem__)):
        widths[i] = min(needed[i], max(LEAST_COLUMN_WIDTH, free // (len(needed) - n_done)))
        free -= widths[i]
    return widths


def _code_line(rows: Sequence[RunRow], row: RunRow) -> str:
    """Return what differs between the code of a run and that of the first; empty unless both are of scripts."""
    diff = code_difference(rows[0], row)
    if diff is None:
        return ""
    return f"{row.name}: {code_diff_text(diff)}" if len(rows) > 2 else code_diff_text(diff)


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
    n_unknown = sum(run.row.kind == "imported" for run in runs)
    if n_unknown and not n_different:
        return f"the settings of {counted(n_unknown, 'imported run')} are not known"
    if not n_different:
        return "same settings"
    if any(run.row.kind == "script" for run in runs):
        return "1 setting differs" if n_different == 1 else f"{n_different} settings differ"
    return f"{n_different} of {len(settings.fields())} settings differ"
