"""`runs export`: records and curves as files of other programs."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tui_lab.core.config.settings import did_you_mean
from tui_lab.core.runs import export
from tui_lab.core.runs.curves import curves
from tui_lab.core.runs.delete import OWN
from tui_lab.core.runs.folder import CONFIG, Run
from tui_lab.runs.comparing import named
from tui_lab.util.errors import ConfigError, RunError

ENDINGS = {
    ".csv": "csv",
    ".json": "json",
    ".tfevents": "tensorboard",
    ".svg": "svg",
    ".png": "png",
    ".html": "html",
    ".htm": "html",
}
PICTURES = (".svg", ".png")


def export_runs(names: Sequence[str], to: Path, form: str | None) -> None:
    """Raises ConfigError for a format that is none, RunError where a run cannot be read or the file not written."""
    form = form or _format_of(to)
    allow(to)
    found = named(names)
    match form:
        case "csv":
            export.to_csv(found, to)
        case "json":
            export.to_json(found, to)
        case "tensorboard" if to.suffix == ".tfevents":
            export.to_event_file(_only(found, to), to)
        case "tensorboard":
            export.to_tensorboard(found, to)
        case "svg" | "png":
            save_curves(found, to)
        case _:
            from tui_lab.report.run_report import write_report

            write_report(_only(found, to), to, [])
    sys.stdout.write(f"{to}\n")


def _format_of(to: Path) -> str:
    if to.suffix not in ENDINGS:
        hint = did_you_mean(to.suffix, ENDINGS)
        raise ConfigError([f"--to {to}: allowed endings are {', '.join(ENDINGS)}{hint}; or give --format"])
    return ENDINGS[to.suffix]


def allow(to: Path) -> None:
    """Raises ConfigError where an export would replace a file of a run."""
    if to.name in OWN and (to.parent / CONFIG).exists():
        raise ConfigError([f"--to {to}: this is a file of the run in {to.parent}; write elsewhere"])


def _only(found: Mapping[str, Run], to: Path) -> Run:
    if len(found) != 1:
        raise ConfigError([f"--to {to}: one run is allowed here, and {len(found)} were named"])
    return next(iter(found.values()))


def save_curves(found: Mapping[str, Run], to: Path) -> None:
    """The running train loss of each run over its steps, in one picture; the best validation losses marked.

    A single run is drawn with its validation loss. Raises ConfigError for another ending than a picture's, RunError.
    """
    from tui_lab.report.plotting import save_overlay

    if to.suffix not in PICTURES:
        raise ConfigError([f"{to}: allowed endings of a picture are {', '.join(PICTURES)}"])
    allow(to)
    every = {name: curves(run.downsampled().events()) for name, run in found.items()}
    bests = {name: (float(one.best[0]), one.best[1]) for name, one in every.items() if one.best is not None}
    if len(every) == 1:
        [one] = every.values()
        series = {"train": one.train, "running": one.running, "validation": one.validation}
        marks = {f"best {value:.4f} at {step:,.0f}": (step, value) for step, value in bests.values()}
    else:
        series, marks = {name: one.running for name, one in every.items()}, bests
    series = {name: points for name, points in series.items() if points[0]}
    if not series:
        raise RunError(f"{', '.join(found)}: no update is recorded, so there is nothing to draw")
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        save_overlay(series, to, title=", ".join(found) if len(found) < 4 else f"{len(found)} runs", marks=marks)
    except OSError as error:
        raise RunError(f"{to}: not written: {error.strerror}") from error
