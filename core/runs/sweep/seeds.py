"""A sweep stands for its trials where runs are named."""

from dataclasses import dataclass
from pathlib import Path

from tui_lab.core.runs import folder as runs
from tui_lab.core.runs import run_files
from tui_lab.core.runs.folder import SWEEP, Run
from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.sweep.folder import Sweep, read_sweep
from tui_lab.core.runs.sweep.search_space import label
from tui_lab.util.errors import RunError

MOST_POINTS = 8
"""Points of a sweep that are compared, at most: each is a column of a table."""


@dataclass(frozen=True)
class DonePoint:
    """The trials of one point of a sweep that are done; they differ only in their seed.

    label: the values that other points do not have, as "lr=0.01"; empty for the only point of a sweep over seeds.
    """

    label: str
    runs: tuple[Run, ...]


def sweep_folder(name: str) -> Path | None:
    """Return the folder of the sweep with this path or name; None if there is none."""
    paths = (Path(name), runs.runs_folder() / name)
    return next((path for path in paths if (path / SWEEP).is_file()), None)


def done_points(folder: Path) -> list[DonePoint]:
    """Return the points of a sweep with the trials that are done, in its order.

    Raises RunError if no trial is done, or if there are more points than can be compared.
    """
    sweep = read_sweep(folder)
    varied = varied_settings(sweep)
    by_label: dict[str, list[Run]] = {}
    for row in sweep.rows():
        if row.state == "done" and (row.run / run_files.CONFIG).is_file():
            by_label.setdefault(label({key: row.values[key] for key in varied}), []).append(Run(row.run))
    if not by_label:
        raise RunError.of("not_found", "no trial of this sweep is done", key=sweep.name)
    if len(by_label) > MOST_POINTS:
        message = f"has {len(by_label)} points, too many to compare; name some of its trials in {sweep.path / 'trials'}"
        other = f"{message}; the ranking of all is printed by: tui-lab sweep --resume {sweep.path}"
        raise RunError.of("too_large", other, key=sweep.name, allowed=f"at most {MOST_POINTS}")
    return [DonePoint(text, tuple(of_point)) for text, of_point in by_label.items()]


def varied_settings(sweep: Sweep) -> list[str]:
    """Return the settings other than the seed that have several values among the trials of a sweep."""
    points = sweep.plan.points
    keys = dict.fromkeys(key for point in points for key in point if key != SEED)
    return [key for key in keys if len({repr(point.get(key)) for point in points}) > 1]
