"""Import logs as runs, and say what became of them."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_lab.core.runs.folder import runs_folder
from tui_lab.core.runs.importing.columns import is_held_out
from tui_lab.core.runs.importing.formats import format_of, logs_in
from tui_lab.core.runs.importing.source import FORMATS, Format, ImportSource
from tui_lab.core.runs.importing.write_run import ImportedRun, run_name, write_run
from tui_lab.util.errors import ConfigError, LabError, nearest

MOST_SHOWN = 12
"""Columns that are listed."""


@dataclass(frozen=True)
class Target:
    """Where runs are written to. name: of the only run; out: the folder of the only run, or the one of several."""

    name: str | None = None
    out: Path | None = None
    replace: bool = False


@dataclass(frozen=True)
class Skipped:
    """A log that was not imported, and why."""

    path: Path
    error: LabError


def import_runs(
    path: Path, form: str | None, columns: Sequence[str], target: Target, *, number_rows: bool
) -> Iterator[ImportedRun | Skipped]:
    """Import every run in a file or folder, one after the other.

    Where there are several, those that cannot be imported are skipped, unless that are all. Raises ConfigError for
    wrong options, DataError for a log that cannot be read, RunError for a run that is there.
    """
    known_form = _format(form, path)
    if number_rows and known_form != "csv":
        raise ConfigError.of("conflict", "only the rows of CSV files can be counted", key="--number-rows")
    logs = logs_in(path, known_form, parse_columns(columns), number_rows=number_rows)
    errors: list[LabError] = []
    n_imported = 0
    for log in logs:
        try:
            sources = log.read()
        except LabError as error:
            errors.append(error)
            if len(logs) > 1:
                yield Skipped(log.path, error)
            continue
        is_only = len(logs) == len(sources) == 1
        for source in sources:
            try:
                yield write_run(source, _place(source, target, is_only=is_only), replace=target.replace)
                n_imported += 1
            except LabError as error:
                errors.append(error)
                if not is_only:
                    yield Skipped(log.path, error)
    if errors and not n_imported:
        raise errors[0]


def _format(form: str | None, path: Path) -> Format:
    if form is None or not path.exists():
        return format_of(path)
    known = next((one for one in FORMATS if one == form), None)
    if known is None:
        raise ConfigError.of(
            "unknown_name",
            "unknown format",
            key="--format",
            value=form,
            allowed=", ".join(FORMATS),
            suggestion=nearest(form, FORMATS),
        )
    return known


def parse_columns(texts: Sequence[str]) -> dict[str, str]:
    """VALUE=NAME options as a dictionary. Raises ConfigError."""
    columns: dict[str, str] = {}
    for text in texts:
        value, equals, name = text.partition("=")
        if not (equals and value and name):
            raise ConfigError.of("invalid", "must be VALUE=NAME, as in train_loss=my_loss", key="--column", value=text)
        columns[value.strip()] = name
    return columns


def _place(source: ImportSource, target: Target, *, is_only: bool) -> Path:
    """Return the folder of a run."""
    if is_only:
        return target.out or runs_folder() / run_name(target.name or source.name)
    name = f"{target.name}-{source.name}" if target.name else source.name
    return (target.out or runs_folder()) / run_name(name)


def imported_json(imported: ImportedRun) -> dict[str, Any]:
    """Return what became of a source, as JSON values."""
    source = imported.source
    return {
        "run": str(imported.run.path),
        "name": imported.run.name,
        "source": str(source.path),
        "format": source.format,
        "sha256": source.sha256,
        "columns": dict(source.columns),
        "others": list(source.others),
        "ignored": list(source.ignored),
        "notes": list(source.notes),
        "steps": imported.n_steps,
        "evaluations": imported.n_evaluations,
        "last_step": imported.summary.steps,
    }


def imported_lines(imported: ImportedRun) -> list[str]:
    """Return what became of a source, for people."""
    source = imported.source
    counts = f"{imported.n_steps:,} steps with a train loss, {imported.n_evaluations:,} evaluations"
    lines = [f"{source.path} ({source.format}): {counts}"]
    lines.append("  " + ", ".join(f"{value} from {name!r}" for value, name in source.columns.items()))
    if source.others:
        lines.append(f"  as they are: {_listed(source.others)}")
    if source.ignored:
        lines.append(f"  left out, not numbers: {_listed(source.ignored)}")
    held_out_losses = [name for name in source.others if is_held_out(name) and "loss" in name.lower()]
    if held_out_losses and "val_loss" not in source.columns:
        lines.append(f"  no validation loss; to take one: --column val_loss={shlex.quote(held_out_losses[0])}")
    return lines + [f"  {note}" for note in source.notes]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:MOST_SHOWN]))
    return shown if len(names) <= MOST_SHOWN else f"{shown} and {len(names) - MOST_SHOWN:,} more"
