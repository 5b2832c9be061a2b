"""Export runs: CSV, JSON, TensorBoard event files, pictures of the curves."""

from collections.abc import Mapping
from pathlib import Path

from tui_lab.core.runs import export
from tui_lab.core.runs.curves import curves
from tui_lab.core.runs.folder import Run
from tui_lab.core.runs.run_files import ALL, CONFIG
from tui_lab.runs.numbers import short_number
from tui_lab.util.errors import ConfigError, RunError, nearest

FORMATS = {
    ".csv": "csv",
    ".json": "json",
    ".tfevents": "tensorboard",
    ".svg": "svg",
    ".png": "png",
    ".html": "html",
    ".htm": "html",
}
"""Formats by the suffix of the file."""
PICTURES = (".svg", ".png")
TITLED = 3
"""The title of a picture names at most this many runs."""


def format_of(to: Path) -> str:
    """Return the format for a path's suffix. Raises ConfigError for an unknown one."""
    if to.suffix not in FORMATS:
        raise ConfigError.of(
            "invalid",
            "unknown suffix; choose another, or give --format",
            key="--to",
            value=str(to),
            allowed=", ".join(FORMATS),
            suggestion=nearest(to.suffix, FORMATS),
        )
    return FORMATS[to.suffix]


def refuse_run_files(to: Path) -> None:
    """Raise ConfigError if an export to `to` would replace a file of a run."""
    if to.name in ALL and (to.parent / CONFIG).exists():
        raise ConfigError.of("exists", f"a file of the run in {to.parent}; choose another path", key=f"--to {to}")


def only_run(named: Mapping[str, Run], to: Path) -> Run:
    """Return the run if there is one. Raises ConfigError for more."""
    if len(named) != 1:
        raise ConfigError.of("invalid", f"only one run is allowed here; {len(named)} were given", key=f"--to {to}")
    return next(iter(named.values()))


def export_runs(named: Mapping[str, Run], to: Path, form: str) -> None:
    """Write runs to `to`. form: csv, json, tensorboard, svg or png.

    Raises ConfigError for more runs than the format takes, RunError if a run cannot be read or the file not written.
    """
    match form:
        case "csv":
            export.to_csv(named, to)
        case "json":
            export.to_json(named, to)
        case "tensorboard" if to.suffix == ".tfevents":
            export.to_event_file(only_run(named, to), to)
        case "tensorboard":
            export.to_tensorboard(named, to)
        case _:
            save_curves(named, to)


def save_curves(named: Mapping[str, Run], to: Path) -> None:
    """Draw the running train loss of each run over its steps into one picture, the best validation losses marked.

    A single run is drawn with its validation loss. Raises ConfigError for a suffix that is not .svg or .png, RunError.
    """
    from tui_lab.runs.plotting import save_overlay

    if to.suffix not in PICTURES:
        raise ConfigError.of("invalid", "not an image format", key=str(to), allowed=", ".join(PICTURES))
    refuse_run_files(to)
    all_curves = {name: curves(run.downsampled().events()) for name, run in named.items()}
    bests = {name: (float(one.best[0]), one.best[1]) for name, one in all_curves.items() if one.best is not None}
    if len(all_curves) == 1:
        [one] = all_curves.values()
        series = {"train": one.train, "running": one.running, "validation": one.validation}
        marks = {f"best {short_number(value)} at {step:,.0f}": (step, value) for step, value in bests.values()}
    else:
        series = {name: one.running for name, one in all_curves.items()}
        marks = bests
    series = {name: points for name, points in series.items() if points[0]}
    if not series:
        raise RunError.of("unavailable", "no steps recorded, so there is nothing to plot", key=", ".join(named))
    title = ", ".join(named) if len(named) <= TITLED else f"{len(named)} runs"
    try:
        to.parent.mkdir(parents=True, exist_ok=True)
        save_overlay(series, to, title=title, marks=marks)
    except OSError as error:
        raise RunError.of("unwritable", f"cannot be written: {error.strerror}", key=str(to)) from error
