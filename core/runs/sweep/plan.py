"""Make the plan of a sweep from a config, its [sweep] table and the options of `tui-lab sweep`."""

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError

from tui_lab.core.config import settings
from tui_lab.core.config.schema import Config, Section
from tui_lab.core.runs.summary import METRICS, refuse_unknown_metric
from tui_lab.core.runs.sweep import search_space as ax
from tui_lab.core.runs.sweep.folder import TIMES, TO_TARGET, Plan, SweepCheck
from tui_lab.core.runs.sweep.parallel import Workers, choose_workers, usable_cores
from tui_lab.core.runs.sweep.search_space import Axis, ChoiceAxis, RangeAxis, Values
from tui_lab.core.user_code.import_file import PATH_SETTINGS, absolute_setting
from tui_lab.util.errors import ConfigError, Problem
from tui_lab.util.strict_json import dumps

MAX_TRIALS = 10_000
"""Trials of one sweep, at most: more is probably a typing error."""
Engine = Literal["local", "ray"]
AUTO: Literal["auto"] = "auto"
Jobs = Annotated[
    Annotated[int, Field(ge=1, le=4096)] | None, BeforeValidator(lambda jobs: None if jobs == AUTO else jobs)
]
"""Trials at once; None, written "auto": as many as finish the most trials per minute."""
_JOBS: TypeAdapter[int | None] = TypeAdapter(Jobs)


class CheckTable(Section):
    """[sweep.check]: with `key` at `worst`, the metric must not be better than at `best`."""

    key: str
    best: Any
    worst: Any
    why: str = ""


class SweepTable(Section):
    """[sweep] of a config; the options of `tui-lab sweep` take precedence."""

    over: dict[str, Any] = Field({})
    seeds: int = Field(1, ge=1, le=MAX_TRIALS)
    random: int = Field(0, ge=0, le=MAX_TRIALS)
    random_seed: int = Field(0, ge=0, lt=2**32)
    metric: str = ""
    prune: bool = False
    jobs: Jobs = None
    check: CheckTable | None = None


def parse_jobs(text: str) -> int | None:
    """Return the number of jobs in `text`; None for "auto". Raises ConfigError."""
    try:
        return _JOBS.validate_python(text)
    except ValidationError as error:
        raise ConfigError([replace(problem, key="--jobs") for problem in settings.problems_of(error)]) from error


def plan(
    source: str,
    overrides: Sequence[str],
    over: Sequence[str],
    options: Mapping[str, Any],
    *,
    engine: Engine = "local",
    command: str = "",
) -> Plan:
    """Return the plan of a sweep. options: the fields of SweepTable that were given. Raises ConfigError."""
    tables = settings.read_tables(source, sweeps=True)
    table = _sweep_table(tables.pop("sweep", {}), over, options)
    base = settings.build(tables, overrides)
    axes = [_with_absolute_paths(ax.axis(key, spec)) for key, spec in table.over.items()]
    if not axes and table.seeds == 1:
        raise ConfigError.of("missing", "must be given, as in --over optim.lr=0.01,0.001", key="--over")
    refuse_both(axes, overrides)
    metric = _metric(table.metric, base, axes)
    if table.prune:
        _require_prunable(base, engine, metric)
    repeats = _repeats(base, axes, table.seeds)
    all_points = points(axes, table, repeats)
    sweep_plan = Plan(
        name=source,
        base=_with_absolute_files(base).model_dump(mode="json"),
        over={axis.key: axis.spec for axis in [*axes, *repeats]},
        points=tuple(all_points),
        metric=metric,
        prune=table.prune,
        check=SweepCheck(**table.check.model_dump()) if table.check else None,
        seeds=table.seeds,
        drawn=table.random,
        engine=engine,
        command=command,
    )
    _refuse_all_invalid(sweep_plan)
    return _with_workers(sweep_plan, table.jobs)


def _with_workers(sweep_plan: Plan, jobs: int | None) -> Plan:
    """Return the plan with its jobs, chosen where `jobs` is None, and with the threads of each trial in its config."""
    base = settings.build(sweep_plan.base)
    if sweep_plan.engine == "ray":
        # On a cluster a trial uses one core by default, since the other machines' cores are not known.
        workers = Workers(jobs or 1, base.train.threads or 1, "")
    elif jobs is None:
        workers = choose(sweep_plan, range(len(sweep_plan.points)))
    else:
        workers = Workers(jobs, base.train.threads or max(1, usable_cores() // jobs), "")
    if not base.train.threads:
        base = settings.changed(base, "train.threads", workers.threads)
    return replace(sweep_plan, base=base.model_dump(mode="json"), jobs=workers.jobs, jobs_reason=workers.reason)


def choose(sweep_plan: Plan, numbers: Iterable[int]) -> Workers:
    """Return the workers with which this machine trains the trials `numbers` of a sweep in the least time."""
    numbers = list(numbers)
    configs = {}
    for number in numbers:
        # Trials that differ in nothing else need the same memory.
        values = {key: value for key, value in sweep_plan.points[number].items() if _decides_memory(key)}
        if (key := dumps(values)) not in configs:
            with suppress(ConfigError):
                configs[key] = sweep_plan.config(number)
    if not configs:  # Each of these trials will fail at once.
        return Workers(1, 1, "")
    return choose_workers(list(configs.values()), len(numbers), timed=sweep_plan.metric in TIMES)


def _decides_memory(key: str) -> bool:
    return key.startswith(("model.", "data.", "train.")) and key != "train.seed" or key == "optim.name"


def _require_prunable(base: Config, engine: Engine, metric: str) -> None:
    """Raises ConfigError where the pruner could not compare trials while they train."""
    if engine == "ray":
        raise ConfigError.of(
            "conflict",
            "needs --engine local, since a trial on a cluster cannot be observed while it trains",
            key="--prune",
        )
    if not base.train.eval_every:
        raise ConfigError.of(
            "conflict", "needs evaluations, but train.eval_every = 0; set train.eval_every", key="--prune"
        )
    if metric in (*TIMES, *TO_TARGET):
        raise ConfigError.of("conflict", f"trials cannot be compared by {metric} while they train", key="--prune")


def _with_absolute_files(config: Config) -> Config:
    """`config` with absolute paths: a sweep may be resumed from another folder."""
    for key in PATH_SETTINGS:
        config = settings.changed(config, key, absolute_setting(key, settings.get(config, key)))
    return config


def _with_absolute_paths(axis: Axis) -> Axis:
    return (
        axis
        if isinstance(axis, RangeAxis)
        else ChoiceAxis(axis.key, tuple(absolute_setting(axis.key, v) for v in axis.values))
    )


def _sweep_table(table: Any, over: Sequence[str], options: Mapping[str, Any]) -> SweepTable:
    axes = [ax.parse_axis(text) for text in over]
    refuse_repeated([axis.key for axis in axes])
    return table_of(table, options, {axis.key: axis.spec for axis in axes})


def refuse_repeated(keys: Sequence[str]) -> None:
    """Raise ConfigError for keys that --over has twice."""
    if repeated := {key for key in keys if keys.count(key) > 1}:
        raise ConfigError(
            [
                Problem(code="conflict", message="given twice; give all values at once", key="--over", value=key)
                for key in sorted(repeated)
            ]
        )


def table_of(table: Any, options: Mapping[str, Any], over: Mapping[str, Any] | None = None) -> SweepTable:
    """Return the [sweep] table of a config with what the command line gives. Raises ConfigError."""
    try:
        from_config = SweepTable.model_validate(table)
        over_axes = from_config.over | dict(over or {})
        return SweepTable.model_validate(from_config.model_dump() | dict(options) | {"over": over_axes})
    except ValidationError as error:
        problems = settings.problems_of(error, SweepTable.model_fields)
        raise ConfigError([replace(problem, key=f"sweep.{problem.key}") for problem in problems]) from error


def refuse_both(axes: Sequence[Axis], overrides: Sequence[str]) -> None:
    """Raise ConfigError for keys that --set has as well."""
    set_keys = {override.partition("=")[0].strip() for override in overrides}
    message = "is both set and swept over; use one of the two"
    both = [Problem(code="conflict", message=message, key=axis.key) for axis in axes if axis.key in set_keys]
    if both:
        raise ConfigError(both)


def _repeats(base: Config, axes: Sequence[Axis], seeds: int) -> list[Axis]:
    """Return the axis of repeated seeds, if any: the config's own seed and those after it."""
    if seeds == 1:
        return []
    if any(axis.key == "train.seed" for axis in axes):
        raise ConfigError.of(
            "conflict", "train.seed is already swept over; use one of the two", key="--seeds", value=seeds
        )
    return [ChoiceAxis("train.seed", tuple(range(base.train.seed, base.train.seed + seeds)))]


def points(axes: Sequence[Axis], table: SweepTable, repeats: Sequence[Axis]) -> list[Values]:
    """Return the points of a sweep, each with its seeds. Raises ConfigError."""
    choices = [len(axis.values) for axis in axes if isinstance(axis, ChoiceAxis)]
    n = (table.random or math.prod(choices)) * table.seeds
    if n > MAX_TRIALS:
        raise ConfigError.of(
            "too_large",
            f"{n:,} trials are too many; --random N draws N of the points",
            key="sweep",
            allowed=f"at most {MAX_TRIALS:,}",
        )
    drawn = ax.draw(axes, table.random, table.random_seed) if table.random else ax.grid(axes)
    return [point | repeat for point in drawn for repeat in ax.grid(repeats)]


def _metric(name: str, base: Config, axes: Sequence[Axis]) -> str:
    """Return the metric to rank by: `name`, or the one that fits the config."""
    is_stopped_at_target = base.train.target_loss > 0 or any(axis.key == "train.target_loss" for axis in axes)
    if name in TO_TARGET and not is_stopped_at_target:
        raise ConfigError.of(
            "missing",
            f"must be set, as in --set train.target_loss=0.37, since {name} counts up to it",
            key="train.target_loss",
        )
    if name:
        refuse_unknown_metric(name, METRICS, "--metric")
        return name
    # A model that memorizes a few examples does not generalize, so its validation loss means nothing.
    if base.data.overfit:
        return "train_loss"
    return "best_val_loss" if base.train.patience else "val_loss"


def _refuse_all_invalid(plan: Plan) -> None:
    """Raises ConfigError where no point is a valid config. A single invalid point is a failed trial."""
    first: ConfigError | None = None
    for number in range(len(plan.points)):
        try:
            plan.config(number)
            return
        except ConfigError as error:
            first = first or error
    if first is not None:
        raise first
