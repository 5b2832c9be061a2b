"""Read runs from TensorBoard event files, with TensorBoard's own reader.

Only scalars are kept; images, histograms and graphs, which make such files large, are passed over.
"""

import hashlib
import heapq
import os
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from tui_lab.core.runs.importing.columns import find_columns
from tui_lab.core.runs.importing.names import folder_name
from tui_lab.core.runs.importing.source import ImportSource, Log, Row, sha256_of
from tui_lab.util import extras
from tui_lab.util.errors import ConfigError, DataError

IN_NAME = "tfevents"
"""In the name of every event file."""
PARTS = (frozenset({"train", "training"}), frozenset({"validation", "val", "eval", "test"}))
"""Folders side by side that are parts of one run, as Keras writes them: one of the first, and others of the second."""
WALL_TIME = "wall time"
DEEPEST = 8
"""Levels of folders that are searched."""


@dataclass
class _Series:
    """The points of one tag. Steps increase: where a log goes back, training continued from an earlier state."""

    steps: "array[int]" = field(default_factory=lambda: array("q"))
    values: "array[float]" = field(default_factory=lambda: array("d"))
    times: "array[float]" = field(default_factory=lambda: array("d"))
    n_replaced: int = 0

    def add(self, step: int, value: float, time: float) -> None:
        while self.steps and self.steps[-1] >= step:
            # The same step once more is not a restart, but a value that was corrected or logged in two places.
            self.n_replaced += self.steps[-1] > step
            for points in (self.steps, self.values, self.times):
                points.pop()
        self.steps.append(step)
        self.values.append(value)
        self.times.append(time)

    def extend(self, later: "_Series") -> None:
        """Add the points of a later file."""
        self.n_replaced += later.n_replaced
        for step, value, time in zip(later.steps, later.values, later.times, strict=True):
            self.add(step, value, time)


@dataclass
class _Training:
    """What one training has logged, in one event file or, after restarts, in several."""

    files: list[Path] = field(default_factory=list)
    series: dict[str, _Series] = field(default_factory=dict)

    def add(self, file: Path, added: Mapping[str, _Series]) -> None:
        """Add the series of a further file, whose points replace earlier ones from its first step on."""
        self.files.append(file)
        for tag, points in added.items():
            self.series.setdefault(tag, _Series()).extend(points)

    def starts_again(self, added: Mapping[str, _Series]) -> bool:
        """Return whether these series of a later file begin where this training began, so that it is not a restart.

        Tags with one point, as a metric of hyperparameters that each file has, do not tell.
        """
        curves = [(self.series[tag], points) for tag, points in added.items() if tag in self.series]
        curves = [(before, points) for before, points in curves if len(before.steps) > 1]
        return bool(curves) and all(points.steps[0] <= before.steps[0] for before, points in curves)


@dataclass(frozen=True)
class _RunFolder:
    """One run: its folder, name, and event files with what the tags of each begin with."""

    path: Path
    name: str
    files: Sequence[tuple[str, Path]]


def has_event_files(folder: Path) -> bool:
    """Return whether there is an event file in a folder or below."""
    return any(True for _ in _folders_with_files(folder))


def tensorboard_logs(path: Path, given: Mapping[str, str]) -> list[Log]:
    """Return the runs in an event file or in a folder and below: one for each folder with event files.

    given: columns by value, see `find_columns`. The scalars of a run take 24 bytes each in memory. Raises ConfigError
    where tensorboard is not installed, DataError where there is no event file.
    """
    extras.require(
        "tensorboard.backend.event_processing.event_file_loader",
        extra="tensorboard",
        feature="the import of TensorBoard event files",
    )
    folders = _run_folders(path)
    if not folders:
        raise DataError.of("not_found", "no event file (*tfevents*) here or below", key=str(path))
    return [Log(folder.path, partial(_sources, folder, given)) for folder in folders]


def _run_folders(path: Path) -> list[_RunFolder]:
    if path.is_file():
        return [_RunFolder(path, folder_name(path.resolve().parent), [("", path)])]
    files = dict(_folders_with_files(path))
    runs: dict[Path, list[tuple[str, Path]]] = {}
    for folder, of_folder in files.items():
        is_part = _is_part(folder, files)
        run = folder.parent if is_part else folder
        prefix = f"{folder.name}/" if is_part else ""
        runs.setdefault(run, []).extend((prefix, file) for file in of_folder)
    return [_RunFolder(run, _name(path, run), of_run) for run, of_run in runs.items()]


def _is_part(folder: Path, folders: Iterable[Path]) -> bool:
    """Return whether a folder and one beside it are the training and the validation of one run."""
    side_by_side = {other.name for other in folders if other.parent == folder.parent}
    return any(folder.name in part for part in PARTS) and all(side_by_side & part for part in PARTS)


def _name(root: Path, folder: Path) -> str:
    inside = "-".join(folder.relative_to(root).parts)
    return inside or folder_name(root.resolve())


def _folders_with_files(root: Path, depth: int = DEEPEST) -> Iterator[tuple[Path, list[Path]]]:
    """Yield the folders that have event files, with these in the order of their names, which begin with their time."""
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError.of("unreadable", error.strerror or str(error), key=str(root)) from error
    files = [root / entry.name for entry in entries if IN_NAME in entry.name and entry.is_file()]
    if files:
        yield root, files
    for entry in entries:
        if depth > 1 and entry.is_dir(follow_symlinks=False):
            yield from _folders_with_files(root / entry.name, depth - 1)


def _sources(folder: _RunFolder, given: Mapping[str, str]) -> list[ImportSource]:
    """Return the runs in a folder: several if training started again in a later file.

    Raises DataError without a loss.
    """
    trainings = _trainings(folder)
    notes = []
    if len(trainings) > 1:
        notes = [f"training started again in {len(trainings) - 1} of its later event files: each is a run of its own"]
    sources = [_source(folder, 1, trainings[0], given, notes)]
    for number, training in enumerate(trainings[1:], 2):
        try:
            sources.append(_source(folder, number, training, given, notes))
        except (ConfigError, DataError) as error:  # It ended before it logged a loss.
            left_out = f"{training.files[0].name} is left out: {error}"
            sources[0] = replace(sources[0], notes=[*sources[0].notes, left_out])
    return sources


def _trainings(folder: _RunFolder) -> list[_Training]:
    """Return the trainings in the event files of a folder.

    The parts of one in several folders are in the same order.
    """
    trainings: list[_Training] = []
    n_of_part: dict[str, int] = {}
    for prefix, file in folder.files:
        added: dict[str, _Series] = {}
        for tag, step, value, time in _scalars(file):
            added.setdefault(prefix + tag, _Series()).add(step, value, time)
        n = n_of_part.setdefault(prefix, 1)
        if n <= len(trainings) and trainings[n - 1].starts_again(added):
            n = n_of_part[prefix] = n + 1
        trainings += [_Training() for _ in range(n - len(trainings))]
        trainings[n - 1].add(file, added)
    return trainings


def _source(
    folder: _RunFolder, number: int, training: _Training, given: Mapping[str, str], notes: Sequence[str]
) -> ImportSource:
    series = training.series
    columns = find_columns(list(series), given)
    n_replaced = sum(points.n_replaced for points in series.values())
    replaced = (
        f"a restart went back to an earlier step: {n_replaced:,} points from there on, logged before, are left out"
    )
    return ImportSource(
        path=folder.path,
        format="tensorboard",
        name=folder.name if number == 1 else f"{folder.name}-{number}",
        columns={**columns, "timestamp": WALL_TIME},
        rows=partial(_rows, series),
        sha256=_hash(training.files),
        created=max(0.0, min(points.times[0] for points in series.values())),
        others=[tag for tag in series if tag not in columns.values()],
        notes=[*notes, *([replaced] if n_replaced else [])],
    )


def _scalars(file: Path) -> Iterator[tuple[str, int, float, float]]:
    """Yield the scalars of an event file: tag, step, value, wall time. A record that is cut off ends it."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
    from tensorboard.compat.proto.summary_pb2 import DataClass

    scalar_tags: dict[str, bool] = {}
    for event in EventFileLoader(str(file)).Load():
        for summary in event.summary.value:
            # Only the first value of a tag says what kind it is.
            if scalar_tags.setdefault(summary.tag, summary.metadata.data_class == DataClass.DATA_CLASS_SCALAR):
                yield summary.tag, event.step, _value(summary.tensor), event.wall_time


def _value(tensor: Any) -> float:
    """Return the number in a tensor of one number."""
    from tensorboard.util.tensor_util import make_ndarray

    return float(tensor.float_val[0] if tensor.float_val else make_ndarray(tensor).item())


def _rows(series: Mapping[str, _Series]) -> Iterator[Row]:
    """Yield the points of all tags, those of a step in one row."""
    points = heapq.merge(*(_points(tag, one) for tag, one in series.items()), key=lambda point: point[0])
    for step, of_step in groupby(points, key=lambda point: point[0]):
        values: dict[str, float] = {}
        for _, tag, value, time in of_step:
            values[tag] = value
            values[WALL_TIME] = max(time, values.get(WALL_TIME, time))
        yield Row(f"step {step:,}", step, values)


def _points(tag: str, series: _Series) -> Iterator[tuple[int, str, float, float]]:
    for step, value, time in zip(series.steps, series.values, series.times, strict=True):
        yield step, tag, value, time


def _hash(event_files: Iterable[Path]) -> str:
    """Of the contents of all event files; of one file, its own."""
    digests = [sha256_of(file) for file in event_files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
