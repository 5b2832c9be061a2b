"""Make the plan of a sweep over a script from the options of `tui-lab sweep`."""

import ast
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.summary import METRICS
from tui_lab.core.runs.sweep import plan as planning
from tui_lab.core.runs.sweep import search_space
from tui_lab.core.runs.sweep.folder import LOSS, TIMES, TO_TARGET, Plan
from tui_lab.core.runs.sweep.parallel import usable_cores
from tui_lab.core.runs.sweep.script_trials import FOLDER, ScriptTrials, is_option, is_placed
from tui_lab.core.runs.sweep.search_space import Axis, ChoiceAxis
from tui_lab.core.user_code.assigned_values import Assigned, assigned_values
from tui_lab.util.errors import ConfigError, nearest

MOST_NAMES = 12
"""Names of assigned values that an error lists."""
SCRIPT_METRICS = (LOSS, *(metric for metric in METRICS if metric not in (*TO_TARGET, "exact_match")))


def script_plan(
    script: ScriptTrials, over: Sequence[str], options: Mapping[str, Any], jobs: int | None, *, command: str = ""
) -> Plan:
    """Return the plan of a sweep over a script. Raises ConfigError.

    script: without `assigned`. over: KEY=V1,V2 or KEY=LOW..HIGH[:log] each. options: the fields of SweepTable that were
    given, without `over` and `jobs`. jobs: trials at once; None: one.
    """
    table = planning.table_of({}, options)
    values = assigned_values(_file_of(script))
    axes = [_axis(text, script, values) for text in over]
    planning.refuse_repeated([axis.key for axis in axes])
    if not axes and table.seeds == 1:
        raise ConfigError.of("missing", "must be given, as in --over --lr=0.01,0.001", key="--over")
    metric = _metric(table.metric)
    if table.prune and metric in TIMES:
        raise ConfigError.of("conflict", f"trials cannot be compared by {metric} while they train", key="--prune")
    repeats = [ChoiceAxis(SEED, tuple(range(table.seeds)))] if table.seeds > 1 else []
    n_jobs = jobs or 1
    return Plan(
        name=script.script.rpartition(".")[2] if script.is_module else Path(script.script).stem,
        base={},
        over={axis.key: axis.spec for axis in [*axes, *repeats]},
        points=tuple(planning.points(axes, table, repeats)),
        metric=metric,
        prune=table.prune,
        seeds=table.seeds,
        drawn=table.random,
        jobs=n_jobs,
        command=command,
        script=replace(
            script,
            assigned=tuple(axis.key for axis in axes if _is_assigned(axis.key, script)),
            # Several trials with all threads each would wait for one another.
            threads=max(1, usable_cores() // n_jobs) if n_jobs > 1 else 0,
        ),
    )


def _is_assigned(key: str, script: ScriptTrials) -> bool:
    return not is_option(key) and not is_placed(key, script.arguments)


def _file_of(script: ScriptTrials) -> Path:
    """Return the file that Python runs; it may not exist for a module that is not in the script's folder."""
    if not script.is_module:
        return Path(script.folder, script.script)
    path = Path(script.folder, *script.script.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def _axis(text: str, script: ScriptTrials, values: Assigned) -> Axis:
    """Parse one --over of a script. Raises ConfigError."""
    key, parts = search_space.key_and_values(text, example="--lr=0.01,0.001")
    if key in (FOLDER, SEED):
        raise ConfigError.of("invalid", "this name has another meaning; use another one", key="--over", value=key)
    if _is_assigned(key, script):
        return _assigned_axis(key, parts, script, values)
    return search_space.script_axis(key, parts)


def _assigned_axis(key: str, parts: str | list[str], script: ScriptTrials, values: Assigned) -> Axis:
    """Return the axis of a value that the script assigns. Raises ConfigError if it does not, or for another type."""
    if key not in values:
        raise _unknown(key, script, values)
    own = values[key]
    if isinstance(parts, str):
        if isinstance(own, bool) or not isinstance(own, int | float):
            raise ConfigError.of("wrong_type", "only a number has a range; list its values", key=key, value=parts)
        return search_space.range_axis(key, parts, is_whole=isinstance(own, int))
    return search_space.choice_axis(key, [_like(own, key, part) for part in parts])


def _like(own: Any, key: str, text: str) -> Any:
    """Return the value of `text`. Raises ConfigError if the script's own is of another kind."""
    value = _parsed(text)
    if own is None or value is None or _kind(own) == _kind(value):
        return value
    if isinstance(own, str):
        return text.strip()
    raise ConfigError.of(
        "wrong_type", f"the script assigns {own!r}, which is of another type", key=key, value=text.strip()
    )


def _kind(value: Any) -> type:
    """Return the type of a value: one for all numbers, and one for lists and tuples, which JSON does not tell apart."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float
    return list if isinstance(value, tuple) else type(value)


def _parsed(text: str) -> Any:
    """Return the value of a Python literal; else that of a TOML one, such as true, or the text itself."""
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return settings.parse_value(text)
    return list(value) if isinstance(value, tuple) else value


def _unknown(key: str, script: ScriptTrials, values: Assigned) -> ConfigError:
    """Return the error for a key that is neither an option, nor in the arguments, nor assigned."""
    names = list(values)
    listed = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
    assigned = f", or what {script.script} assigns once at its top level" + (f": {listed}" if names else "")
    return ConfigError.of(
        "unknown_name",
        "this script has no such value",
        key="--over",
        value=key,
        allowed=f"--{key}=… for an option of the script, {{{key}}} in its arguments after --{assigned}",
        suggestion=f"--{key}" if _has_option(script, f"--{key}") else nearest(key, names),
    )


def _has_option(script: ScriptTrials, option: str) -> bool:
    """Return whether the text of a script has an option in quotes."""
    text = _file_of(script).read_text("utf-8", "replace")
    return f'"{option}"' in text or f"'{option}'" in text


def _metric(name: str) -> str:
    """Return the metric to rank by. Raises ConfigError."""
    if name and name not in SCRIPT_METRICS:
        raise ConfigError.of(
            "unknown_name",
            "not a metric of a script",
            key="--metric",
            value=name,
            allowed=", ".join(SCRIPT_METRICS),
            suggestion=nearest(name, SCRIPT_METRICS),
        )
    return name or LOSS
