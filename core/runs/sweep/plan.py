"""From a config with a [sweep] table, and what was asked for beside it, to the plan of a sweep."""

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, ValidationError

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config, Section
from tui_lab.core.runs.summary import METRICS
from tui_lab.core.runs.sweep import search_space as ax
from tui_lab.core.runs.sweep.folder import Check, Plan
from tui_lab.core.runs.sweep.search_space import Axis, Choices, Range, Values
from tui_lab.core.user_code.import_file import PATH_SETTINGS, absolute_setting
from tui_lab.util.errors import ConfigError

MOST = 10_000
"""Trials of one sweep, at most: more is a slip of the keyboard."""
Engine = Literal["local", "ray"]


class CheckTable(Section):
    """[sweep.check]: what the sweep must show."""

    key: str
    best: Any
    worst: Any
    why: str = ""


class SweepTable(Section):
    """[sweep] of a config: what the options of `tui-lab sweep` say, which come before it."""

    over: dict[str, Any] = Field({})
    seeds: int = Field(1, ge=1, le=MOST)
    random: int = Field(0, ge=0, le=MOST)
    random_seed: int = Field(0, ge=0, lt=2**32)
    metric: str = ""
    prune: bool = False
    jobs: int = Field(1, ge=1, le=4096)
    check: CheckTable | None = None


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def plan(
    source: str,
    overrides: Sequence[str],
    over: Sequence[str],
    options: Mapping[str, Any],
    *,
    engine: Engine = "local",
    command: str = "",
) -> Plan:
    """The trials of a sweep. options: of SweepTable, those that were given. Raises ConfigError, every problem told."""
    tables = settings.read_tables(source, sweeps=True)
    table = _sweep_table(tables.pop("sweep", {}), over, options)
    base = settings.build(tables, overrides)
    axes = [_with_absolute_paths(ax.axis(key, spec)) for key, spec in table.over.items()]
    if not axes and table.seeds == 1:
        raise ConfigError(["sweep: say over what, as in --over optim.lr=0.01,0.001"])
    _refuse_both(axes, overrides)
    if table.prune and engine == "ray":
        raise ConfigError(["--prune: only with --engine local; a trial on a cluster is not looked at while it trains"])
    if table.prune and not base.train.eval_every:
        raise ConfigError(["--prune: it judges by evaluations, and train.eval_every = 0; set it to some steps"])
    repeats = _repeats(base, axes, table.seeds)
    points = _points(axes, table, repeats)
    # On a cluster a trial has one core unless the config says otherwise: it is not known what this machine leaves.
    threads = base.train.threads or max(1, cores() // table.jobs if engine == "local" else 1)
    base = settings.changed(base, "train.threads", threads)
    # A sweep may be resumed from elsewhere.
    for key in PATH_SETTINGS:
        base = settings.changed(base, key, absolute_setting(key, settings.get(base, key)))
    check = Check(**table.check.model_dump()) if table.check else None
    found = Plan(
        name=source,
        base=base.model_dump(mode="json"),
        over={axis.key: axis.spec for axis in [*axes, *repeats]},
        points=tuple(points),
        metric=_metric(table.metric, base),
        prune=table.prune,
        check=check,
        seeds=table.seeds,
        drawn=table.random,
        engine=engine,
        jobs=table.jobs,
        command=command,
    )
    _refuse_all_bad(found)
    return found


def _with_absolute_paths(axis: Axis) -> Axis:
    return (
        axis
        if isinstance(axis, Range)
        else Choices(axis.key, tuple(absolute_setting(axis.key, v) for v in axis.values))
    )


def _sweep_table(table: Any, over: Sequence[str], options: Mapping[str, Any]) -> SweepTable:
    axes = [ax.parse_axis(text) for text in over]
    keys = [axis.key for axis in axes]
    if twice := {key for key in keys if keys.count(key) > 1}:
        raise ConfigError([f"--over {key}: given twice; give all its values at once" for key in sorted(twice)])
    try:
        found = SweepTable.model_validate(table)
        merged = found.model_dump() | dict(options) | {"over": found.over | {axis.key: axis.spec for axis in axes}}
        return SweepTable.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(
            [f"sweep.{problem}" for problem in settings.problems_of(error, SweepTable.model_fields)]
        ) from error


def _refuse_both(axes: Sequence[Axis], overrides: Sequence[str]) -> None:
    set_keys = {override.partition("=")[0].strip() for override in overrides}
    both = [f"{axis.key}: both set and swept over; leave one of them out" for axis in axes if axis.key in set_keys]
    if both:
        raise ConfigError(both)


def _repeats(base: Config, axes: Sequence[Axis], seeds: int) -> list[Axis]:
    """The axis of repeated seeds, if any: the config's own seed and those after it."""
    if seeds == 1:
        return []
    if any(axis.key == "train.seed" for axis in axes):
        raise ConfigError([f"--seeds {seeds}: train.seed is swept over already; leave one of them out"])
    return [Choices("train.seed", tuple(range(base.train.seed, base.train.seed + seeds)))]


def _points(axes: Sequence[Axis], table: SweepTable, repeats: Sequence[Axis]) -> list[Values]:
    choices = [len(axis.values) for axis in axes if isinstance(axis, Choices)]
    n = (table.random or math.prod(choices)) * table.seeds
    if n > MOST:
        raise ConfigError([f"sweep: {n:,} trials; allowed are at most {MOST:,}. --random N draws N of the points"])
    points = ax.draw(axes, table.random, table.random_seed) if table.random else ax.grid(axes)
    return [point | repeat for point in points for repeat in ax.grid(repeats)]


def _metric(name: str, base: Config) -> str:
    """The metric to rank by; unless said otherwise, what the config itself is after."""
    if name and name not in METRICS:
        hint = settings.did_you_mean(name, METRICS)
        raise ConfigError([f"--metric {name!r}: unknown metric{hint} (allowed are {', '.join(METRICS)})"])
    if name:
        return name
    # One datapoint learnt by heart says nothing of others.
    if base.data.overfit:
        return "train_loss"
    return "best_val_loss" if base.train.patience else "val_loss"


def _refuse_all_bad(plan: Plan) -> None:
    """A point that is no config is a failed trial; if all are, there is no sweep."""
    first: ConfigError | None = None
    for number in range(len(plan.points)):
        try:
            plan.config(number)
            return
        except ConfigError as error:
            first = first or error
    if first is not None:
        raise first
