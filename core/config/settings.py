"""Read, change and write a Config by dotted keys; every problem of a config is reported at once."""

import functools
import importlib.resources
import math
import re
import tomllib
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from tui_lab.core.config import renamed
from tui_lab.core.config.schema import Config
from tui_lab.util import files, plugin_registry
from tui_lab.util.errors import ConfigError, LabError, Problem, nearest, shortened
from tui_lab.util.plugin_registry import NAME

FIRST = ("reverse", "overfit-one", "socrates", "pseudo-socrates")
"""The presets in the order in which a newcomer should try them; others follow by name."""
OPTION = "data.options."
"""Prefix of the keys of a task's options."""
_PLUGINS: dict[str, plugin_registry.Kind] = {"data.task": "tasks", "data.tokenizer": "tokenizers"}
"""The settings that may name a plug-in."""
LARGEST_FILE = 2**20
"""Bytes of a config file, at most."""


@dataclass(frozen=True)
class Preset:
    """A config file that comes with tui-lab. Its header has a title, a command, the expected time and result."""

    name: str
    text: str

    @property
    def header(self) -> tuple[str, ...]:
        """The lines of the leading comment."""
        lines = self.text.splitlines()
        return tuple(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


@functools.cache
def fields() -> Mapping[str, FieldInfo]:
    """Return every setting by its dotted key, in the order of a form, without the options of plug-ins' tasks.

    `faults` belongs to no section and has no dot.
    """
    settings: dict[str, FieldInfo] = {}
    for name, info in Config.model_fields.items():
        section = getattr(info.annotation, "model_fields", None)
        settings |= {name: info} if section is None else {f"{name}.{key}": field for key, field in section.items()}
    del settings[OPTION.removesuffix(".")]
    return MappingProxyType(settings)


def keys_of(config: Config) -> list[str]:
    """Return every setting of `config`, the options of its task included.

    They follow the other settings of the data.
    """
    keys = list(fields())
    after_data = 1 + max(place for place, key in enumerate(keys) if key.startswith("data."))
    return [*keys[:after_data], *(OPTION + name for name in config.data.options), *keys[after_data:]]


def exists(key: str) -> bool:
    """Return whether `key` is a setting: one of `fields`, or an option of a plug-in's task.

    Only the task knows the names of its options.
    """
    return key in fields() or (key.startswith(OPTION) and re.fullmatch(NAME, key.removeprefix(OPTION)) is not None)


def is_live(key: str) -> bool:
    """Return whether `key` can be changed while a run is training. Raises ConfigError for an unknown key."""
    if not exists(key):
        raise ConfigError(unknown_key(key))
    extra = fields()[key].json_schema_extra if key in fields() else None
    return bool(isinstance(extra, dict) and extra["live"])


def choices(key: str) -> list[str]:
    """Return the names that a setting takes, those of plug-ins included.

    Empty for a setting that takes other values.
    """
    return choices_of(key, fields().get(key))


def choices_of(key: str, field: FieldInfo | None) -> list[str]:
    """As `choices`, of the field of a setting; None: it has no field, and so no choices."""
    if field is None:
        return []
    if built_in := _built_in_names(field):
        return [*built_in, *(name for name in plugin_registry.names(_PLUGINS[key]) if name not in built_in)]
    return [choice for choice in get_args(field.annotation) if isinstance(choice, str)]


def _built_in_names(field: FieldInfo) -> list[str]:
    """Return the names that tui-lab itself has for a setting to which plug-ins add others; empty for other settings."""
    extra = field.json_schema_extra
    names = extra.get("choices", []) if isinstance(extra, dict) else []
    return [str(name) for name in names] if isinstance(names, list) else []


def bounds(key: str) -> tuple[float, float]:
    """Return the smallest and the largest value of `key`, which exists; infinite where there is no bound."""
    return limits_of(fields()[key])


def limits_of(field: FieldInfo) -> tuple[float, float]:
    """Return the smallest and the largest value of a field; infinite where there is no bound."""
    low = max((limit.ge for limit in field.metadata if hasattr(limit, "ge")), default=-math.inf)
    return low, min((limit.le for limit in field.metadata if hasattr(limit, "le")), default=math.inf)


def get(config: Config, key: str) -> Any:
    """Return the value of a dotted key that exists; None for an option that is not set."""
    if key.startswith(OPTION):
        return config.data.options.get(key.removeprefix(OPTION))
    section, _, name = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, name)


def presets() -> dict[str, Preset]:
    """Return the configs of one run."""
    return _presets_in("presets")


def sweep_presets() -> dict[str, Preset]:
    """Return the configs of many runs, which have a [sweep] table."""
    return _presets_in("presets/sweeps")


def _presets_in(place: str) -> dict[str, Preset]:
    folder = importlib.resources.files("tui_lab.core.config") / place
    texts = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}
    names = [name for name in FIRST if name in texts] + sorted(set(texts) - set(FIRST))
    return {name: Preset(name, texts[name]) for name in names}


def load(source: str, overrides: Iterable[str] = ()) -> Config:
    """Return the config of a preset's name or a TOML file, with KEY=VALUE overrides. Raises ConfigError.

    Warns of keys that have another name now.
    """
    overrides = list(overrides)
    tables = read_tables(source)
    set_keys = [override.partition("=")[0].strip() for override in overrides]
    for old in dict.fromkeys([*renamed.old_keys(tables), *(key for key in set_keys if key in renamed.RENAMED)]):
        warnings.warn(renamed.notice(old), renamed.RenamedKeyWarning, stacklevel=2)
    return build(tables, overrides)


def read_tables(source: str, *, sweeps: bool = False) -> dict[str, Any]:
    """Return the TOML tables of a preset or file, not yet validated. sweeps: a [sweep] table is allowed.

    Raises ConfigError.
    """
    tables = _read_tables(source)
    if "sweep" in tables and not sweeps:
        raise ConfigError.of(
            "invalid", f"is the config of a sweep, not of a run; use: tui-lab sweep {source}", value=source
        )
    return tables


def _read_tables(source: str) -> dict[str, Any]:
    all_presets = presets() | sweep_presets()
    if source in all_presets:
        return tomllib.loads(all_presets[source].text)
    path = Path(source)
    if not is_file(path):
        raise ConfigError.of(
            "unknown_name",
            "not a preset or config file",
            value=source,
            allowed=f"a TOML file, or one of {', '.join(all_presets)}",
            suggestion=nearest(source, all_presets),
        )
    try:
        return tomllib.loads(files.read_text(path, LARGEST_FILE))
    except RecursionError as error:
        raise ConfigError.of("unreadable", "not readable as TOML: nested too deeply", key=source) from error
    except (ValueError, OSError) as error:
        raise ConfigError.of("unreadable", f"not readable as TOML: {error}", key=source) from error


def build(tables: Mapping[str, Any], overrides: Iterable[str] = (), *, any_plugin: bool = False) -> Config:
    """Return the Config of tables as in TOML with KEY=VALUE overrides. Raises ConfigError with all problems.

    any_plugin: the config may name plug-ins that are not installed, as that of a run to look at may.
    """
    if tables.get("kind") == "script":
        raise ConfigError.of(
            "invalid",
            "is the config of a run recorded from a script; only the script can repeat it: tui-lab watch SCRIPT",
            key="kind",
            value="script",
        )
    merged = _copied(renamed.with_current_keys(tables))
    problems = []
    for override in overrides:
        key, equals, text = override.partition("=")
        key = renamed.current(key.strip())
        if not equals:
            problems.append(
                Problem(code="invalid", message="must be KEY=VALUE, as in optim.lr=0.001", key="--set", value=override)
            )
        elif not exists(key):
            problems.append(unknown_key(key))
        else:
            put(merged, key, parse_value(text))
    if problems:
        raise ConfigError(problems)
    unknown = [] if any_plugin else list(_unknown_names(merged))
    try:
        config = Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError([*unknown, *problems_of(error)]) from error
    if unknown:
        raise ConfigError(unknown)
    return config


def _copied(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of tables, and of the tables in them."""
    return {name: _copied(value) if isinstance(value, Mapping) else value for name, value in tables.items()}


def put(tables: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key that exists, and make the tables that it is in. A table that is something else is left so."""
    *sections, name = key.split(".")
    table: Any = tables
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            return
    table[name] = value


def _unknown_names(tables: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the tasks and tokenizers that neither tui-lab nor a plug-in has."""
    for key, kind in _PLUGINS.items():
        section, _, name = key.partition(".")
        table = tables.get(section)
        value = table.get(name) if isinstance(table, Mapping) else None
        if not isinstance(value, str) or value in _built_in_names(fields()[key]):
            continue
        if plugin_registry.find(kind, value) is None:
            names = choices(key)
            yield Problem(
                code="unknown_name",
                message="not one of the choices",
                key=key,
                value=value,
                allowed=", ".join(names),
                suggestion=nearest(value, names),
            )


def changed(config: Config, key: str, value: Any) -> Config:
    """Return a copy of `config` with another value of `key`, validated again. Raises ConfigError."""
    return with_values(config, {key: value})


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return a copy of `config` with other values of some keys, validated again. Raises ConfigError."""
    tables = config.model_dump()
    for key, value in values.items():
        if not exists(key):
            raise ConfigError(unknown_key(key))
        put(tables, key, value)
    return build(tables, any_plugin=not values.keys() & _PLUGINS.keys())


def to_toml(config: Config) -> str:
    """Return the text of a config file with every setting; without the options of plug-ins where there are none."""
    tables = config.model_dump(mode="json")
    if not config.data.options:
        del tables["data"]["options"]
    return tomli_w.dumps(tables)


def parse_value(text: str) -> Any:
    """Return the value that `text` is in TOML; the text itself where TOML cannot read it, as a bare word."""
    try:
        table = tomllib.loads(f"value = {text.strip()}")
    # RecursionError: brackets nested beyond the stack. ValueError also: an integer of more than 4,300 digits.
    except (ValueError, RecursionError):
        return text.strip()
    return table["value"] if len(table) == 1 else text.strip()


def unknown_key(key: str) -> Problem:
    """Return the problem of a key that does not exist, with the nearest one that does."""
    keys = fields()
    # A name without its section: `lr` for `optim.lr`.
    full_key = next((full for full in keys if full.partition(".")[2] == key), "")
    suggestion = full_key or nearest(key, keys)
    return Problem(code="unknown_key", message="unknown key", key=shortened(key), suggestion=suggestion)


def is_file(path: Path) -> bool:
    """Return whether `path` is a regular file or a link to one.

    False for an impossible path, such as a name too long.
    """
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def problems_of(error: ValidationError, names: Iterable[str] | None = None) -> list[Problem]:
    """Return the problems of a pydantic error. names: the keys that exist, if they are not those of a Config."""
    problems: list[Problem] = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        cause = item.get("ctx", {}).get("error")
        if item["type"] == "extra_forbidden":
            keys = names if names is not None else fields() if "." in key else Config.model_fields
            suggestion = nearest(key, keys)
            problems.append(
                Problem(code="unknown_key", message="unknown key", key=shortened(key), suggestion=suggestion)
            )
        elif isinstance(cause, LabError):
            problems += cause.problems
        else:
            problems.append(value_problem(key, item))
    return problems


_WRONG_TYPES = {
    "int": "must be a whole number",
    "float": "must be a number",
    "bool": "must be true or false",
    "string": "must be text",
    "list": "must be a list",
    "tuple": "must be a list",
    "model": "must be a table",
    "dict": "must be a table",
}
"""Messages by the first word of pydantic's error type, such as int_type, int_parsing or int_from_float."""

_OUT_OF_BOUNDS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be finite",
    "string_too_short": "must not be empty",
    "too_long": "must have at most {max_length} values",
}


def value_problem(key: str, item: ErrorDetails) -> Problem:
    """Return the problem of one value that pydantic refused. key: where it is."""
    kind = item["type"]
    limits = item.get("ctx", {})
    problem = Problem(code="invalid", message=item["msg"].replace("Input should", "must"), key=shortened(key))
    if kind == "missing":
        return replace(problem, code="missing", message="must be set")
    problem = replace(problem, value=item["input"])
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(limits["expected"]))
        return replace(
            problem,
            code="unknown_name",
            message="not one of the choices",
            allowed=", ".join(choices),
            suggestion=nearest(str(item["input"]), choices),
        )
    if kind in _OUT_OF_BOUNDS:
        limits = {name: f"{limit:g}" if isinstance(limit, float) else limit for name, limit in limits.items()}
        return replace(problem, message=_OUT_OF_BOUNDS[kind].format_map(limits))
    message = _WRONG_TYPES.get(kind.partition("_")[0])
    return problem if message is None else replace(problem, code="wrong_type", message=message)


def differences(old: Config, new: Config) -> dict[str, Any]:
    """Return the keys whose values differ, with the new values."""
    keys = dict.fromkeys([*keys_of(old), *keys_of(new)])
    values = {key: (get(old, key), get(new, key)) for key in keys}
    return {key: new_value for key, (old_value, new_value) in values.items() if new_value != old_value}
