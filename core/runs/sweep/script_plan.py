"""Make the plan of a sweep over a script from the options of `tui-lab sweep`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.summary import METRICS, refuse_unknown_metric
from tui_lab.core.runs.sweep import plan as planning
from tui_lab.core.runs.sweep.folder import LOSS, TIMES, TO_TARGET, Plan
from tui_lab.core.runs.sweep.parallel import usable_cores
from tui_lab.core.runs.sweep.plan import SweepTable
from tui_lab.core.runs.sweep.script_trials import ScriptTrials
from tui_lab.core.runs.sweep.script_values import ScriptValues
from tui_lab.core.runs.sweep.search_space import ChoiceAxis
from tui_lab.util.errors import ConfigError

SCRIPT_METRICS = (LOSS, *(metric for metric in METRICS if metric not in (*TO_TARGET, "exact_match")))


def script_plan(
    script: ScriptTrials,
    over: Sequence[str],
    options: Mapping[str, Any],
    jobs: int | None,
    *,
    sets: Sequence[str] = (),
    command: str = "",
) -> Plan:
    """Return the plan of a sweep over a script. Raises ConfigError.

    script: without `assigned` and `fixed`. over: KEY=V1,V2 or KEY=LOW..HIGH[:log] each. sets: KEY=VALUE each, for all
    trials. options: the fields of SweepTable that were given, without `over` and `jobs`. jobs: trials at once; None: 1.
    """
    table = planning.table_of({}, options)
    values = ScriptValues(script)
    axes = [values.axis(text) for text in over]
    planning.refuse_repeated([axis.key for axis in axes])
    fixed = dict(values.fixed(text) for text in sets)
    planning.refuse_both(axes, list(fixed))
    values.check_arguments([*fixed, *(axis.key for axis in axes)])
    if not axes and table.seeds == 1:
        raise ConfigError.of("missing", "must be given, as in --over --lr=0.01,0.001", key="--over")
    repeats = [ChoiceAxis(SEED, tuple(range(table.seeds)))] if table.seeds > 1 else []
    assigned = tuple(key for key in [*fixed, *(axis.key for axis in axes)] if values.is_assigned(key))
    return Plan(
        name=script.script.rpartition(".")[2] if script.is_module else Path(script.script).stem,
        base={},
        over={axis.key: axis.spec for axis in [*axes, *repeats]},
        points=tuple(planning.points(axes, table, repeats)),
        metric=_metric(table),
        prune=table.prune,
        seeds=table.seeds,
        drawn=table.random,
        jobs=jobs or 1,
        command=command,
        script=replace(script, fixed=fixed, assigned=assigned, threads=_threads(jobs or 1)),
    )


def _threads(jobs: int) -> int:
    """Return the threads of each trial: several with all threads each would wait for one another."""
    return max(1, usable_cores() // jobs) if jobs > 1 else 0


def _metric(table: SweepTable) -> str:
    """Return the metric to rank by. Raises ConfigError."""
    name = table.metric or LOSS
    refuse_unknown_metric(name, SCRIPT_METRICS, "--metric")
    if table.prune and name in TIMES:
        raise ConfigError.of("conflict", f"trials cannot be compared by {name} while they train", key="--prune")
    return name
