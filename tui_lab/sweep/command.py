"""`tui-lab sweep`: start, join or resume a sweep, show it, and say what it came to."""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from tui_lab.cli.output import stdout
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import ENDED, Plan, Row, Sweep, Watch
from tui_lab.sweep import results, table
from tui_lab.sweep.engine import Engine
from tui_lab.sweep.local import LocalEngine
from tui_lab.sweep.progress import Lines, LiveTable, Silent, View, say
from tui_lab.util.errors import RunError
from tui_lab.util.exit_codes import DONE, FAILED, INTERRUPTED, NOT_MET
from tui_lab.util.strict_json import dumps

LOOK_EVERY = 0.5
"""Seconds between looks at the sweep's folder."""
LOOKS_FOR_SIGNALS = 5


@dataclass(frozen=True)
class Faces:
    """How the sweep is shown."""

    json: bool = False
    quiet: bool = False


def begin(plan: Plan, out: Path | None, engine: str, jobs: int | None, faces: Faces) -> int:
    """Start the sweep of a plan, or join it where it is in `out` already; the exit code."""
    if engine == "ray":
        from tui_lab.sweep import ray_engine

        ray_engine.require()
    return go_on(sweeps.create(plan, out), engine, jobs, faces)


def go_on(sweep: Sweep, engine: str | None, jobs: int | None, faces: Faces) -> int:
    """Train what is left of a sweep, by the engine it was begun with unless another is named; the exit code."""
    try:
        rows = _train(sweep, engine or sweep.plan.engine, jobs, faces)
        return _close(sweep, rows, faces)
    except OSError as error:
        raise RunError(f"{sweep.path}: the sweep cannot go on: {error}; what it has written stays") from error


def _train(sweep: Sweep, engine: str, jobs: int | None, faces: Faces) -> list[Row]:
    """Train until every trial has ended, or until told to stop; how they stand then."""
    watch, view = Watch(sweep), _view(sweep.plan, faces)
    before = {row.number for row in watch.rows() if row.state in ENDED}
    if not (faces.json or faces.quiet):
        say(f"{sweep.path}: {table.counted(watch.rows())}")
    with _engine(sweep, engine, jobs) as trains, _stop_on_signals() as interrupted, view:
        return _until_ended(watch, trains, interrupted, _Told(view, before, faces))


def _close(sweep: Sweep, rows: Sequence[Row], faces: Faces) -> int:
    """Say what it came to, or how to go on; the exit code."""
    if any(row.state not in ENDED for row in rows):
        say(f"interrupted and saved: {table.counted(rows)}; go on with: tui-lab sweep --resume {sweep.path}")
        return INTERRUPTED
    return _conclude(sweep, rows, faces)


def _until_ended(watch: Watch, engine: Engine, interrupted: list[int], told: "_Told") -> list[Row]:
    while True:
        rows = watch.rows()
        told.look(rows)
        if interrupted:
            engine.stop()
        engine.tend(rows)
        if not engine.busy and (interrupted or all(row.state in ENDED for row in rows)):
            return watch.rows()
        # In short pieces, so that Ctrl-C is heard soon.
        for _ in range(LOOKS_FOR_SIGNALS):
            time.sleep(LOOK_EVERY / LOOKS_FOR_SIGNALS)
            if interrupted:
                break


@contextmanager
def _engine(sweep: Sweep, name: str, jobs: int | None) -> Iterator[Engine]:
    """The engine of that name; when the block ends, however it does, nothing of it trains any more."""
    if name == "ray":
        from tui_lab.sweep import ray_engine

        ray_engine.require()
        on_cluster = ray_engine.RayEngine(sweep, jobs)
        try:
            yield on_cluster
        finally:
            on_cluster.kill()
            on_cluster.close()
        return
    here = LocalEngine(sweep, jobs or sweep.plan.jobs)
    try:
        yield here
    finally:
        here.kill()


@contextmanager
def _stop_on_signals() -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, at which the trials save and stop; a second one ends them at once."""
    received: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _view(plan: Plan, faces: Faces) -> View:
    if faces.json or faces.quiet:
        return Silent()
    console = Console(stderr=True)
    return LiveTable(plan, console) if console.is_terminal else Lines(plan)


class _Told:
    """Shows the rows, and tells of each end once."""

    def __init__(self, view: View, before: set[int], faces: Faces) -> None:
        self._view, self._before, self._faces = view, before, faces

    def look(self, rows: Sequence[Row]) -> None:
        ended = [row for row in rows if row.state in ENDED and row.number not in self._before]
        self._before |= {row.number for row in ended}
        self._view.show(rows, ended)
        if self._faces.json:
            for row in ended:
                _print_json({"event": "trial", **row_json(row)})


def row_json(row: Row) -> dict[str, Any]:
    """A trial as JSON values."""
    result = row.result
    return {
        "number": row.number,
        "values": row.values,
        "state": row.state,
        "value": row.value,
        "message": result.message if result else "",
        "run": str(row.run),
        "summary": result.summary.to_json() if result and result.summary else None,
    }


def _conclude(sweep: Sweep, rows: Sequence[Row], faces: Faces) -> int:
    """Draw the curves, print the ranking and the verdict; the exit code."""
    plan = sweep.plan
    best, found, verdict = results.best_first(sweep, rows), results.curves(plan, rows), results.verdict(plan, rows)
    pictures = results.save_pictures(sweep, found) if found else []
    groups = results.groups(plan, rows) if plan.seeds > 1 else []
    if faces.json:
        told = None if verdict is None else {"holds": verdict.holds, "words": verdict.words}
        _print_json(
            {
                "event": "sweep",
                "sweep": str(sweep.path),
                "metric": plan.metric,
                "trials": [row_json(row) for row in best],
                "groups": [
                    {"values": one.values, "mean": one.mean, "std": one.deviation, "seeds": len(one.found)}
                    for one in groups
                ],
                "pictures": [str(path) for path in pictures],
                "verdict": told,
            }
        )
    else:
        console = Console(file=stdout())
        console.print(table.trial_table(plan, best, caption=table.counted(rows), sparks=_sparks(plan, rows)))
        if groups:
            console.print(table.group_table(plan, groups))
        for path in pictures:
            stdout().write(f"curves: {path}\n")
        if verdict is not None:
            stdout().write(f"{verdict.words}\n")
    if not any(row.state in ("done", "pruned") for row in rows):
        say(f"every trial failed; the first one: {rows[0].result.message if rows[0].result else ''}")
        return FAILED
    return NOT_MET if verdict is not None and verdict.holds is not True else DONE


def _sparks(plan: Plan, rows: Sequence[Row]) -> dict[int, str]:
    """The curve of each trial as a line of bars, on one scale for all."""
    kind = results.curve_kind(plan)
    found = {row.number: results.curve(row, kind)[1] for row in rows}
    values = [value for one in found.values() for value in one if abs(value) < float("inf")]
    if not values:
        return {}
    low, high = min(values), max(values)
    return {number: table.sparkline(one, low, high) for number, one in found.items()}


def _print_json(record: dict[str, Any]) -> None:
    stdout().write(dumps(record) + "\n")
    stdout().flush()
