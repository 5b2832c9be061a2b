"""A sweep whose trials differ only in their seed stands for its trials, where runs are named."""

from pathlib import Path

from tui_lab.core.runs import folder as runs
from tui_lab.core.runs.folder import SWEEP, Run
from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.sweep.folder import Sweep, read_sweep
from tui_lab.util.errors import RunError

SHOWN_TRIALS = 3


def sweep_folder(name: str) -> Path | None:
    """Return the folder of the sweep with this path or name; None if there is none."""
    paths = (Path(name), runs.runs_folder() / name)
    return next((path for path in paths if (path / SWEEP).is_file()), None)


def done_trials(folder: Path) -> list[Run]:
    """Return the trials of a sweep over seeds that are done.

    Raises RunError, also for a sweep that varies another setting or has no such trial.
    """
    sweep = read_sweep(folder)
    varied = varied_settings(sweep)
    done = [row for row in sweep.rows() if row.state == "done" and (row.run / runs.CONFIG).is_file()]
    if varied:
        first_of = {sweep.plan.points[row.number][varied[0]]: row.run for row in reversed(done)}
        trials = ", ".join(str(path) for path in sorted(first_of.values())[:SHOWN_TRIALS])
        others = ", whose other seeds take part" if sweep.plan.seeds > 1 else ""
        message = f"this sweep varies {' and '.join(varied)}, not only the seed; name a trial of it{others}"
        raise RunError.of("invalid", message, key=sweep.name, allowed=trials)
    if not done:
        raise RunError.of("not_found", "no trial of this sweep is done", key=sweep.name)
    return [Run(row.run) for row in done]


def varied_settings(sweep: Sweep) -> list[str]:
    """Return the settings other than the seed that have several values among the trials of a sweep."""
    points = sweep.plan.points
    keys = dict.fromkeys(key for point in points for key in point if key != SEED)
    return [key for key in keys if len({repr(point.get(key)) for point in points}) > 1]
