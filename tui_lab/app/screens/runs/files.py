"""Keys of the runs screen that write files: tags and notes, export, delete."""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from textual.screen import Screen

from tui_lab.app.labels import holder_text, shown_path
from tui_lab.app.screens.dialogs import LONGEST_NAME, Ask, AskLine, Choice
from tui_lab.app.screens.runs.notes import notes_dialog, save_notes
from tui_lab.core.runs.catalog import RunRow
from tui_lab.core.runs.delete import removable, remove
from tui_lab.core.runs.lock import in_use
from tui_lab.runs.names import short_name
from tui_lab.util.errors import ConfigError, RunError

DELETE_CHOICES = (Choice("keep", "Keep it"), Choice("delete", "Delete it permanently"))
FORMATS = (".csv", ".json", ".svg", ".png", ".html", ".tfevents")
OF_ONE_RUN = (".html", ".htm", ".tfevents")
"""Formats that take a single run."""


class RunFiles:
    """Ask, then write or delete in a thread. changed: called with the new row of a run, or None if the list changed."""

    def __init__(self, screen: Screen[None], changed: Callable[[RunRow | None], None]) -> None:
        self._screen = screen
        self._changed = changed

    def edit_notes(self, row: RunRow, part: Literal["tags", "note"]) -> None:
        """Ask for tags or a note, and save them."""

        def save(text: str | None) -> None:
            if text is None:
                return
            try:
                edited = save_notes(row, part, text)
            except (ConfigError, RunError) as error:
                self._screen.notify(str(error), severity="error")
            else:
                self._changed(edited)

        self._screen.app.push_screen(notes_dialog(row, part), save)

    def delete(self, row: RunRow) -> None:
        """Ask whether to delete a run; refuse one in training, and a folder with other files."""
        name = short_name(row.name, LONGEST_NAME)
        if holder := in_use(row.path):
            used = f"Run {name} is being trained by {holder_text(holder, time.time())}, so it is not deleted."
            if holder.pid == os.getpid():
                used = f"Run {name} is open here, so it is not deleted. Open another run first."
            self._screen.notify(used, severity="error")
            return
        try:
            removable(row.path)
        except RunError as error:
            self._screen.notify(str(error), severity="error")
            return

        def answered(answer: str | None) -> None:
            if answer == "delete":
                self._in_thread(partial(remove, row.path), f"Deleted {name}")

        question = f"Delete run {name}, {row.steps:,} steps?"
        self._screen.app.push_screen(Ask(question, DELETE_CHOICES), answered)

    def export(self, rows: Sequence[RunRow]) -> None:
        """Ask for a file, and export the runs as `tui-lab runs export` does."""
        name = rows[0].path.name if len(rows) == 1 else "runs"
        self._ask_for_file(rows, f"{name}.csv")

    def _ask_for_file(self, rows: Sequence[RunRow], name: str, problem: str = "") -> None:
        """Ask where to export to. name: the file that the field begins with; problem: why it was refused before."""

        def typed(text: str | None) -> None:
            if text is None:
                return
            if refused := _why_not(text, len(rows)):
                self._ask_for_file(rows, text, refused)
                return
            work = partial(_export, [row.path for row in rows], Path(text))
            self._in_thread(work, f"Exported to {shown_path(Path(text))}", partial(self._ask_for_file, rows, text))

        what = short_name(rows[0].name, LONGEST_NAME) if len(rows) == 1 else f"{len(rows)} runs"
        *others, last = [suffix for suffix in FORMATS if len(rows) == 1 or suffix not in OF_ONE_RUN]
        question = f"Export {what} to a file ({', '.join(others)} or {last})"
        dialog = AskLine(f"✗ {problem}\n{question}" if problem else question, name, enter="export")
        self._screen.app.push_screen(dialog, typed)

    def _in_thread(
        self, work: Callable[[], None], success: str, ask_again: Callable[[str], None] | None = None
    ) -> None:
        """Do the work without stopping the screen, then show how it went.

        ask_again: called with the error if the screen is still shown.
        """
        app = self._screen.app

        def done(error: str | None) -> None:
            if error is not None and ask_again is not None and self._screen.is_current:
                ask_again(error)
            else:
                app.notify(error or success, severity="information" if error is None else "error")
            self._changed(None)

        def run() -> None:
            try:
                work()
            except (ConfigError, RunError, OSError) as problem:
                app.call_from_thread(done, str(problem))
            else:
                app.call_from_thread(done, None)

        self._screen.run_worker(run, thread=True, group="files")


def _why_not(name: str, n_runs: int) -> str:
    """Return why `n_runs` runs cannot be exported to the file; empty if they can."""
    suffix = Path(name).suffix
    if n_runs > 1 and suffix in OF_ONE_RUN:
        return f"a {suffix} file holds a single run"
    if suffix not in (*FORMATS, *OF_ONE_RUN):
        return f"no format has the suffix {suffix}" if suffix else "the file needs a suffix"
    return ""


def _export(paths: Sequence[Path], to: Path) -> None:
    from tui_lab.runs import comparing, exporting

    form = exporting.format_of(to)
    exporting.refuse_run_files(to)
    named = comparing.named_runs([str(path) for path in paths])
    if form == "html":
        from tui_lab.report.write import write_run_report

        write_run_report(exporting.only_run(named, to), to, [])
    else:
        exporting.export_runs(named, to, form)
