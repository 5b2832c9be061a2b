"""The report on runs that are compared: what `tui-lab runs compare` prints, and their curves in one chart."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from tui_lab.core.runs.code_diff import FileDiff
from tui_lab.core.runs.curves import curves
from tui_lab.report.chart import Chart, overlay_chart
from tui_lab.report.render import render
from tui_lab.runs.code_text import files_text
from tui_lab.runs.comparing import Comparison, Section

MOST_LINES = 1_000
"""Lines of one file's difference that are in the page."""
TAB = 4
HEADINGS = 2
"""Lines at the top of a unified diff, which name the two files."""


@dataclass(frozen=True)
class Part:
    """A section as the page shows it. rows: the cells of each line. files: whose lines the page shows."""

    title: str
    text: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_prose: bool
    files: tuple["FilePart", ...]


@dataclass(frozen=True)
class FilePart:
    """A file that differs. lines: each with its kind: added, removed or none. n_more: lines that are left out."""

    title: str
    lines: tuple[tuple[str, str], ...]
    n_more: int


def comparison_report(comparison: Comparison, *, code: bool) -> str:
    """Return the HTML page. code: with the lines of the code that differ."""
    return render(
        "comparison.html",
        names=[column.title for column in comparison.columns],
        n_runs=len(comparison.rows),
        chart=_chart(comparison),
        parts=[_part(section, code=code) for section in comparison.sections()],
        created=time.strftime("%Y-%m-%d %H:%M"),
        path=", ".join(str(row.path) for row in comparison.rows),
    )


def _chart(comparison: Comparison) -> Chart | None:
    """Draw the running train loss of every run that has steps; None without any."""
    series = {name: curves(run.downsampled().events()).running for name, run in comparison.runs.items()}
    series = {name: points for name, points in series.items() if points[0]}
    return overlay_chart(series, label="train loss, running mean, nats") if series else None


def _part(section: Section, *, code: bool) -> Part:
    lines = section.lines or {}
    has_titles = any(lines)
    return Part(
        title=section.title,
        text=tuple(section.text.splitlines()),
        head=(*((section.line_title,) if has_titles else ()), *section.columns),
        rows=tuple((*((title,) if has_titles else ()), *values) for title, values in lines.items()),
        is_prose=section.is_prose,
        files=tuple(map(_file_part, section.code.files)) if code and section.code is not None else (),
    )


def _file_part(file: FileDiff) -> FilePart:
    lines = file.text.splitlines()
    return FilePart(files_text([file]), tuple(_kinds(lines[:MOST_LINES])), max(0, len(lines) - MOST_LINES))


def _kinds(lines: list[str]) -> Iterator[tuple[str, str]]:
    kinds = {"+": "added", "-": "removed"}
    for number, line in enumerate(lines):
        kind = "" if number < HEADINGS else kinds.get(line[:1], "")
        yield kind, line[:1] + line[1:].expandtabs(TAB)
