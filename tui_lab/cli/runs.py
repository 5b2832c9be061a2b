"""`tui-lab runs`: print what tui_lab.runs finds, and ask before deleting."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from tui_lab.cli.output import console, say, stdout, write, write_json
from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.delete import removable, remove
from tui_lab.runs import comparing, exporting, listing
from tui_lab.runs.code_text import code_diff_lines
from tui_lab.runs.figures import row_json
from tui_lab.runs.runs_table import runs_table
from tui_lab.runs.tagging import tag_run
from tui_lab.util.errors import ConfigError
from tui_lab.util.exit_codes import DONE, NOT_JUDGED, NOT_MET

if TYPE_CHECKING:
    from tui_lab.runs.importing import Target

PIPE_WIDTH = 200
"""Columns of a table that is written to a file or pipe."""


def list_runs(folder: Path | None, sort: str, where: Sequence[str], *, as_json: bool) -> None:
    """Print the runs of a folder. Raises ConfigError for an unknown key, RunError if there is no such folder."""
    selection = listing.select_runs(folder, sort, where)
    if as_json:
        write_json([row_json(row) for row in selection.rows])
    elif not selection.total:
        write(f"no runs in {_shown(selection.folder)} yet; start one with: tui-lab run reverse")
    elif not selection.rows:
        write(f"no match among {selection.total} runs in {_shown(selection.folder)}")
    else:
        width = console().width if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPE_WIDTH
        console(width=width).print(runs_table(selection.rows, width))


def _shown(folder: Path) -> str:
    return str(folder) if folder.is_absolute() else f"./{folder}"


def show_run(name: str, *, as_json: bool) -> None:
    """Print one run. Raises RunError."""
    details = listing.run_details(name)
    if as_json:
        write_json(details.to_json())
    else:
        write(details.text())


def trace_run(name: str, step: int | None, *, as_json: bool) -> int:
    """Print what became non-finite first in step `step` of a run; return the exit code."""
    from tui_lab.core import events as ev
    from tui_lab.core.runs.before_nonfinite import read_before
    from tui_lab.core.runs.nonfinite import trace_step
    from tui_lab.runs.event_text import event_text
    from tui_lab.runs.nonfinite_text import before_lines

    run = runs.find(name)
    event = trace_step(run, step)
    if as_json:
        write_json(event and event.to_json())
    else:
        write("all losses and gradients are finite" if event is None else event_text(event) or "")
        if isinstance(event, ev.NonFinite):
            for line in before_lines(read_before(run, event)):
                write(line)
    if isinstance(event, ev.Warned):
        return NOT_JUDGED
    return DONE if event is None else NOT_MET


@dataclass(frozen=True)
class ComparisonFiles:
    """Where a comparison is written besides: its curves as a picture, all of it as a page."""

    curves: Path | None = None
    html: Path | None = None

    def check(self) -> None:
        """Raise ConfigError if the page cannot be written there."""
        if self.html is not None:
            from tui_lab.report.write import check_target

            check_target(self.html, "--html")

    def write(self, comparison: comparing.Comparison, *, code: bool) -> list[Path]:
        """Write the files and return their paths. Raises ConfigError or RunError."""
        if self.curves is not None:
            exporting.save_curves(comparison.runs, self.curves)
        if self.html is not None:
            from tui_lab.report.write import write_comparison

            write_comparison(comparison, self.html, code=code)
        return [path for path in (self.curves, self.html) if path is not None]


def compare_runs(
    names: Sequence[str], prompts: comparing.Prompts | None, files: ComparisonFiles, *, code: bool, as_json: bool
) -> None:
    """Print runs side by side. code: also the lines of the code that differ.

    Raises ConfigError or RunError before anything is printed.
    """
    files.check()
    comparison = comparing.compare(names, prompts)
    written = files.write(comparison, code=code)
    if as_json:
        write_json(comparison.to_json())
        return
    for number, (title, tables) in enumerate(comparison.tables(console().width)):
        stdout().write("\n" if number else "")
        write(title)
        for part, table in enumerate(tables):
            stdout().write("\n" if part else "")
            console().print(table)
    for diff in comparison.code if code else ():
        stdout().write("\n")
        write("\n".join(code_diff_lines(diff)) or comparison.code_title(diff))
    for path in written:
        stdout().write(f"\n{path}\n")


def export_runs(names: Sequence[str], to: Path, form: str | None) -> None:
    """Write runs in another format and print the path. Raises ConfigError for an unknown format, RunError."""
    form = form or exporting.format_of(to)
    exporting.refuse_run_files(to)
    named = comparing.named_runs(names)
    if form == "html":
        from tui_lab.report.write import write_run_report

        write_run_report(exporting.only_run(named, to), to, [])
    else:
        exporting.export_runs(named, to, form)
    stdout().write(f"{to}\n")


def import_logs(
    path: Path, form: str | None, columns: Sequence[str], target: "Target", *, number_rows: bool, as_json: bool
) -> None:
    """Import the runs in a file or folder, and print their paths. Raises ConfigError, DataError or RunError."""
    from tui_lab.runs import importing

    runs_json = []
    skipped_json = []
    for result in importing.import_runs(path, form, columns, target, number_rows=number_rows):
        if isinstance(result, importing.Skipped):
            say(f"skipped {result.path}: {result.error}")
            skipped_json.append({"path": str(result.path), "problem": str(result.error)})
            continue
        for text in importing.imported_lines(result):
            say(text)
        runs_json.append(importing.imported_json(result))
        if not as_json:
            write(str(result.run.path))
    if as_json:
        write_json({"runs": runs_json, "skipped": skipped_json})


def tag(name: str, tags: Sequence[str], drop: Sequence[str]) -> None:
    """Add and remove tags, and print the tags the run has then."""
    write(" ".join(tag_run(name, tags, drop)) or "no tags")


def delete_runs(names: Sequence[str], *, yes: bool) -> None:
    """Delete all of the runs or none.

    Raises ConfigError if there is no terminal to ask for confirmation, RunError for a run that must not be deleted.
    """
    paths = list(dict.fromkeys(_path_of(name) for name in names))
    for path in paths:
        removable(path)
    if not yes and not _confirm(paths):
        say("nothing was deleted")
        return
    for path in paths:
        remove(path)
        write(f"deleted {path}")


def _confirm(paths: Sequence[Path]) -> bool:
    if not sys.stdin.isatty():
        raise ConfigError.of("missing", "needs confirmation; pass --yes", key="runs rm")
    for path in paths:
        say(str(path))
    what = "this run" if len(paths) == 1 else f"these {len(paths)} runs"
    return typer.confirm(f"Delete {what} permanently?", err=True)


def _path_of(name: str) -> Path:
    """Return the path of a run; a link is not followed, so that the link is refused and its target is kept."""
    path = Path(name)
    return path if path.is_symlink() or path.exists() else runs.find(name).path
