"""`tui-lab sweep`: start, join or resume a sweep, show its progress and print its results."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from tui_lab.cli.output import console, say, stdout, write_json
from tui_lab.cli.signals import Interruption, stop_on_signals
from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.sweep import folder as sweeps
from tui_lab.core.runs.sweep.folder import ENDED, Plan, Sweep, TrialRow, Watch
from tui_lab.core.runs.sweep.parallel import Workers, workers_text
from tui_lab.core.runs.sweep.plan import choose
from tui_lab.runs.plotting import Curve
from tui_lab.sweep import results, table
from tui_lab.sweep.engine import Engine
from tui_lab.sweep.local import LocalEngine
from tui_lab.sweep.progress import Lines, LiveTable, Silent, View
from tui_lab.util.errors import ConfigError, RunError
from tui_lab.util.exit_codes import DONE, FAILED, NOT_MET

POLL_SECONDS = 0.5
"""Seconds between reads of the sweep's folder."""
SIGNAL_POLLS = 5
"""Parts of a wait: a signal is noticed after one of them."""


@dataclass(frozen=True)
class Display:
    """How the sweep is shown: JSON lines, only the result, or everything."""

    json: bool = False
    quiet: bool = False


Jobs = int | Literal["auto"] | None
"""Trials at once, as given: None where nothing was given."""


def start_sweep(plan: Plan, out: Path | None, jobs: Jobs, display: Display) -> int:
    """Start the sweep of a plan, or join it if `out` holds it; return the exit code."""
    if plan.engine == "ray":
        from tui_lab.sweep import ray_engine

        ray_engine.require_ray()
    return resume_sweep(sweeps.create_sweep(plan, out), plan.engine, jobs, display)


def resume_sweep(sweep: Sweep, engine: str | None, jobs: Jobs, display: Display) -> int:
    """Train what is left of a sweep, with the engine it was started with unless another is named.

    Returns the exit code. Raises RunError if the sweep's folder cannot be read or written.
    """
    try:
        rows, interruption = _train(sweep, engine or sweep.plan.engine, jobs, display)
    except OSError as error:
        message = f"the sweep cannot continue: {error}; what was written is kept"
        raise RunError.of("unwritable", message, key=str(sweep.path)) from error
    if any(row.state not in ENDED for row in rows):
        say(f"interrupted and saved: {table.counted(rows)}; resume with: tui-lab sweep --resume {sweep.path}")
        return interruption.exit_code
    return _print_results(sweep, rows, display)


def _train(sweep: Sweep, engine: str, jobs: Jobs, display: Display) -> tuple[list[TrialRow], Interruption]:
    """Train until every trial has ended or a signal is received; return the rows at that time, and the signal."""
    watch = Watch(sweep)
    view = _view(sweep.plan, display)
    rows = watch.rows()
    ended_before = {row.number for row in rows if row.state in ENDED}
    workers = _workers(sweep.plan, jobs, rows) if engine == "local" else None
    if not (display.json or display.quiet):
        say(f"{sweep.path}: {table.counted(rows)}")
        if workers is not None and any(row.state not in ENDED for row in rows):
            threads = [sweep.plan.threads(row.number) for row in rows]
            say(workers_text(workers.jobs, threads, workers.reason))
    with _engine(sweep, workers, jobs) as trials, stop_on_signals() as interruption, view:
        return _wait(watch, trials, interruption, Reporter(sweep.plan, view, ended_before, display)), interruption


def _wait(watch: Watch, engine: Engine, interruption: Interruption, reporter: "Reporter") -> list[TrialRow]:
    while True:
        rows = watch.rows()
        reporter.update(rows)
        if interruption.received:
            engine.stop()
        engine.tend(rows)
        if not engine.busy and (interruption.received or all(row.state in ENDED for row in rows)):
            return watch.rows()
        for _ in range(SIGNAL_POLLS):
            time.sleep(POLL_SECONDS / SIGNAL_POLLS)
            if interruption.received:
                break


def _workers(plan: Plan, jobs: Jobs, rows: Sequence[TrialRow]) -> Workers:
    """Return the jobs that were given, now or at the start of the sweep, or those that suit the unfinished trials."""
    if isinstance(jobs, int):
        return Workers(jobs, 0, "")
    if jobs is None and not plan.jobs_reason:
        return Workers(plan.jobs, 0, "")
    if plan.script is not None:
        return Workers(plan.jobs, plan.script.threads, "")
    return choose(plan, [row.number for row in rows if row.state not in ENDED])


@contextmanager
def _engine(sweep: Sweep, workers: Workers | None, jobs: Jobs) -> Iterator[Engine]:
    """Yield the engine: Ray without `workers`. At the end of the block nothing of it trains any more."""
    if workers is None:
        from tui_lab.sweep import ray_engine

        ray_engine.require_ray()
        cluster = ray_engine.RayEngine(sweep, jobs if isinstance(jobs, int) else None)
        with ExitStack() as stack:
            stack.callback(cluster.close)
            stack.callback(cluster.kill)
            yield cluster
        return
    local = LocalEngine(sweep, workers.jobs)
    try:
        yield local
    finally:
        local.kill()


def _view(plan: Plan, display: Display) -> View:
    if display.json or display.quiet:
        return Silent()
    stderr = Console(stderr=True)
    return LiveTable(plan, stderr) if stderr.is_terminal else Lines(plan, say)


class Reporter:
    """Shows the rows, and reports once the end of each trial, and each key of a script whose values have no effect."""

    def __init__(self, plan: Plan, view: View, ended: set[int], display: Display) -> None:
        """ended: the numbers of the trials whose end is not reported."""
        self._plan = plan
        self._no_effect: set[str] = set()
        self._view = view
        self._ended = ended
        self._display = display

    def update(self, rows: Sequence[TrialRow]) -> None:
        newly_ended = [row for row in rows if row.state in ENDED and row.number not in self._ended]
        self._ended |= {row.number for row in newly_ended}
        self._view.show(rows, newly_ended)
        if self._display.json:
            for row in newly_ended:
                write_json({"event": "trial", **row_json(row)})
        if newly_ended:
            for key in results.without_effect(self._plan, rows):
                if key not in self._no_effect:
                    self._no_effect.add(key)
                    self._view.note(f"so far, {_no_effect_text(key)}")


def row_json(row: TrialRow) -> dict[str, Any]:
    """Return a trial as JSON values."""
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


def _print_results(sweep: Sweep, rows: Sequence[TrialRow], display: Display) -> int:
    """Draw the curves, print the ranking and the verdict, and return the exit code."""
    plan = sweep.plan
    ranking = results.best_first(sweep, rows)
    kind = results.curve_kind(plan, rows)
    curves = results.curves(plan, rows, kind)
    verdict = results.verdict(plan, rows)
    no_effect = results.without_effect(plan, rows)
    pictures = _save_pictures(sweep, curves, kind)
    groups = results.groups(plan, rows) if plan.seeds > 1 else []
    if display.json:
        write_json(_results_json(sweep, ranking, groups, pictures, verdict, no_effect))
    else:
        sparks = table.sparklines(rows, kind)
        _print_tables(plan, ranking, groups, caption=table.counted(rows), sparks=sparks)
        for path in pictures:
            stdout().write(f"curves: {path}\n")
        if verdict is not None:
            stdout().write(f"{verdict.text}\n")
        for key in no_effect:
            stdout().write(f"{_no_effect_text(key)}\n")
    if not any(row.state in ("done", "pruned") for row in rows):
        say(f"every trial failed; the first one: {rows[0].result.message if rows[0].result else ''}")
        return FAILED
    return NOT_MET if verdict is not None and verdict.holds is not True else DONE


def _no_effect_text(key: str) -> str:
    if key == SEED:
        return "the seeds gave equal losses: the script sets its own seed"
    return f"{key} had no effect: all its values gave identical losses; check that the script uses it"


def _save_pictures(sweep: Sweep, curves: Mapping[str, Curve], kind: str) -> list[Path]:
    """Draw the curves; without matplotlib say so, since the results do not depend on the pictures."""
    try:
        return results.save_pictures(sweep, curves, kind) if curves else []
    except ConfigError as error:
        say(str(error))
        return []


def _results_json(
    sweep: Sweep,
    ranking: Sequence[TrialRow],
    groups: Sequence[results.Group],
    pictures: Sequence[Path],
    verdict: results.SweepVerdict | None,
    no_effect: Sequence[str],
) -> dict[str, Any]:
    return {
        "event": "sweep",
        "sweep": str(sweep.path),
        "metric": sweep.plan.metric,
        "trials": [row_json(row) for row in ranking],
        "groups": [
            {"values": group.values, "mean": group.mean, "std": group.deviation, "seeds": len(group.metrics)}
            for group in groups
        ],
        "pictures": [str(path) for path in pictures],
        "verdict": None if verdict is None else {"holds": verdict.holds, "text": verdict.text},
        "without_effect": list(no_effect),
    }


def _print_tables(
    plan: Plan, ranking: Sequence[TrialRow], groups: Sequence[results.Group], *, caption: str, sparks: dict[int, str]
) -> None:
    out = console()
    out.print(table.trial_table(plan, ranking, caption=caption, sparks=sparks))
    if groups:
        out.print(table.group_table(plan, groups))
