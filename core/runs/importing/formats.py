"""Which format a file or folder has, and the logs in it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from tui_lab.core.runs.importing.csv_file import is_csv, read_csv
from tui_lab.core.runs.importing.source import FORMATS, Format, Log
from tui_lab.core.runs.importing.tensorboard_logs import IN_NAME, has_event_files, tensorboard_logs
from tui_lab.core.runs.importing.trainer_state import STATE, read_trainer_state
from tui_lab.util.errors import ConfigError, DataError

DEEPEST = 6
"""Levels of folders in which CSV files and states are searched."""


def format_of(path: Path) -> Format:
    """Return the format of a file by its name, of a folder by the files in it.

    Raises ConfigError where it is not clear.
    """
    if not path.exists():
        raise ConfigError.of("not_found", "no such file or folder", key="PATH", value=str(path))
    formats = _formats_in(path) if path.is_dir() else _formats_of_file(path)
    if len(formats) == 1:
        return formats[0]
    if formats:
        message = f"has logs of several formats: {', '.join(formats)}; choose one with --format"
    else:
        what = f"*{IN_NAME}*, *.csv, {STATE}"
        message = f"no known log{' in it' if path.is_dir() else ''} ({what}); if it is one, say which with --format"
    raise ConfigError.of("invalid", message, key="PATH", value=str(path), allowed=", ".join(FORMATS))


def _formats_of_file(path: Path) -> list[Format]:
    if IN_NAME in path.name:
        return ["tensorboard"]
    if path.suffix.lower() == ".json":
        return ["trainer-state"]
    return ["csv"] if is_csv(path) else []


def _formats_in(folder: Path) -> list[Format]:
    formats: list[Format] = ["tensorboard"] if has_event_files(folder) else []
    formats += ["csv"] if csv_files(folder) else []
    return [*formats, "trainer-state"] if states(folder) else formats


def logs_in(path: Path, form: Format, given: Mapping[str, str], *, number_rows: bool = False) -> Sequence[Log]:
    """Return the logs in a file or folder, which are read one after the other. Raises ConfigError, DataError."""
    match form:
        case "tensorboard":
            return tensorboard_logs(path, given)
        case "csv":
            files = _files(path, csv_files(path), "*.csv")
            return [Log(file, partial(read_csv, file, given, number_rows=number_rows)) for file in files]
        case "trainer-state":
            files = _files(path, states(path), STATE)
            return [Log(file, partial(read_trainer_state, file, given)) for file in files]


def _files(path: Path, in_folder: Sequence[Path], what: str) -> Sequence[Path]:
    if not path.is_dir():
        return [path]
    if not in_folder:
        raise DataError.of("not_found", f"no {what} here or below", key=str(path))
    return in_folder


def csv_files(folder: Path) -> list[Path]:
    """Return the CSV files in a folder and below."""
    return [file for file in _walk(folder) if is_csv(file)]


def states(folder: Path) -> list[Path]:
    """Return the states of the runs in a folder and below.

    A state has the whole log: of several checkpoints, the last one.
    """
    newest: dict[Path, tuple[int, Path]] = {}
    for file in _walk(folder):
        if file.name != STATE:
            continue
        checkpoint, _, number = file.parent.name.rpartition("-")
        is_checkpoint = checkpoint == "checkpoint" and number.isdigit()
        # The state beside the checkpoints is written when the training has ended.
        run, age = (file.parent.parent, int(number)) if is_checkpoint else (file.parent, 2**63)
        newest[run] = max(newest.get(run, (-1, file)), (age, file))
    return [file for _, file in newest.values()]


def _walk(folder: Path) -> Iterator[Path]:
    depth = len(folder.parts)
    for place, folders, files in os.walk(folder):
        here = Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if len(here.parts) - depth >= DEEPEST:
            folders.clear()
        yield from (here / name for name in sorted(files))
