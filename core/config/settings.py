"""Read, change and write a Config by dotted keys, with errors for people."""

import importlib.resources
import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from tui_lab.core.config.schema import Config
from tui_lab.util import files
from tui_lab.util.errors import ConfigError, nearest, shortened, shown

FIRST = ("reverse", "overfit-one", "socrates", "pseudo-socrates")
"""The order in which one would try the presets; others follow by name."""
MOST_BYTES = 2**20
"""Of a config file."""


@dataclass(frozen=True)
class Preset:
    """A config file that comes with the lab. Its header says command, expected time and expected result."""

    name: str
    text: str

    @property
    def header(self) -> tuple[str, ...]:
        lines = self.text.splitlines()
        return tuple(line.removeprefix("#").strip() for line in lines if line.startswith("#"))


def fields() -> dict[str, FieldInfo]:
    """Every setting by its dotted key, in the order of a form; `faults` stands in no section and has no dot."""
    found: dict[str, FieldInfo] = {}
    for name, info in Config.model_fields.items():
        section = getattr(info.annotation, "model_fields", None)
        found |= {name: info} if section is None else {f"{name}.{key}": field for key, field in section.items()}
    return found


def is_live(key: str) -> bool:
    """Whether a running training takes a new value of `key`. Raises ConfigError for an unknown key."""
    known = fields()
    if key not in known:
        raise ConfigError([unknown_key(key)])
    extra = known[key].json_schema_extra
    return bool(isinstance(extra, dict) and extra["live"])


def bounds(key: str) -> tuple[float, float]:
    """The lowest and the highest number that `key`, which exists, may be; infinite where there is no bound."""
    limits = fields()[key].metadata
    low = max((limit.ge for limit in limits if hasattr(limit, "ge")), default=-math.inf)
    return low, min((limit.le for limit in limits if hasattr(limit, "le")), default=math.inf)


def get(config: Config, key: str) -> Any:
    """The value of a dotted key that exists."""
    section, _, name = key.rpartition(".")
    return getattr(getattr(config, section) if section else config, name)


def presets() -> dict[str, Preset]:
    """The configs of one run."""
    return _presets_in("presets")


def sweep_presets() -> dict[str, Preset]:
    """The configs of many runs, which have a [sweep] table."""
    return _presets_in("presets/sweeps")


def _presets_in(place: str) -> dict[str, Preset]:
    folder = importlib.resources.files("tui_lab.core.config") / place
    found = {f.name.removesuffix(".toml"): f.read_text("utf-8") for f in folder.iterdir() if f.name.endswith(".toml")}
    names = [name for name in FIRST if name in found] + sorted(set(found) - set(FIRST))
    return {name: Preset(name, found[name]) for name in names}


def load(source: str, overrides: Iterable[str] = ()) -> Config:
    """The config of a preset's name or a TOML file, with KEY=VALUE overrides. Raises ConfigError."""
    return build(read_tables(source), overrides)


def read_tables(source: str, *, sweeps: bool = False) -> dict[str, Any]:
    """The TOML tables of a preset or file, not yet validated. sweeps: those with a [sweep] table, too.

    Raises ConfigError.
    """
    tables = _read_tables(source)
    if "sweep" in tables and not sweeps:
        raise ConfigError([f"{source}: a config of many runs, for its [sweep] table; use: tui-lab sweep {source}"])
    return tables


def _read_tables(source: str) -> dict[str, Any]:
    known = presets() | sweep_presets()
    if source in known:
        return tomllib.loads(known[source].text)
    path = Path(source)
    if not is_file(path):
        raise ConfigError.of(
            "unknown_name",
            "not a preset or config file",
            value=source,
            allowed=f"a TOML file, or one of {', '.join(known)}",
            suggestion=nearest(source, known),
        )
    try:
        return tomllib.loads(files.read_text(path, MOST_BYTES))
    except RecursionError as error:
        raise ConfigError([f"{source}: not readable as TOML: nested too deep"]) from error
    except (ValueError, OSError) as error:
        raise ConfigError([f"{source}: not readable as TOML: {error}"]) from error


def build(tables: Mapping[str, Any], overrides: Iterable[str] = ()) -> Config:
    """Tables as in TOML, then overrides, to a Config. Raises ConfigError with every problem found."""
    merged: dict[str, Any] = {
        name: dict(value) if isinstance(value, Mapping) else value for name, value in tables.items()
    }
    problems = []
    known = fields()
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        if not equals:
            problems.append(f"{shown(override)}: an override is KEY=VALUE, as in optim.lr=0.001")
        elif key not in known:
            problems.append(unknown_key(key))
        else:
            section, _, name = key.rpartition(".")
            table = merged.setdefault(section, {}) if section else merged
            if isinstance(table, dict):
                table[name] = parse_value(text)
    if problems:
        raise ConfigError(problems)
    try:
        return Config.model_validate(merged)
    except ValidationError as error:
        raise ConfigError(problems_of(error)) from error


def changed(config: Config, key: str, value: Any) -> Config:
    """`config` with one key changed and everything validated again. Raises ConfigError."""
    if key not in fields():
        raise ConfigError([unknown_key(key)])
    section, _, name = key.rpartition(".")
    tables = config.model_dump()
    (tables[section] if section else tables)[name] = value
    return build(tables)


def to_toml(config: Config) -> str:
    return tomli_w.dumps(config.model_dump(mode="json"))


def parse_value(text: str) -> Any:
    """A value as TOML writes it; a bare word is a string, and so is whatever else TOML cannot read."""
    try:
        found = tomllib.loads(f"value = {text.strip()}")
    # Besides what is no TOML: an integer of more than 4,300 digits, brackets nested beyond the stack.
    except (ValueError, RecursionError):
        return text.strip()
    return found["value"] if len(found) == 1 else text.strip()


def unknown_key(key: str) -> str:
    """What is wrong with `key`, with the nearest there is; a name without its section is found too."""
    known = fields()
    section = next((whole for whole in known if whole.partition(".")[2] == key), None)
    return f"{shortened(key)}: unknown key" + (f"; did you mean {section}?" if section else did_you_mean(key, known))


def did_you_mean(name: str, names: Iterable[str]) -> str:
    suggestion = nearest(name, names)
    return f"; did you mean {suggestion}?" if suggestion else ""


def is_file(path: Path) -> bool:
    """Whether `path` is a regular file, or a link to one; False too for what no path can be, as a name too long."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def problems_of(error: ValidationError, names: Iterable[str] | None = None) -> list[str]:
    """pydantic's complaints, each with its key, its value and what is allowed. names: the keys there are, if others."""
    problems: list[str] = []
    for item in error.errors(include_url=False):
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            known = names if names is not None else Config.model_fields if "." not in key else fields()
            problems.append(f"{shortened(key)}: unknown key{did_you_mean(key, known)}")
        elif item["type"] == "value_error":
            problems += str(item["ctx"]["error"]).splitlines()
        else:
            problems.append(f"{shortened(key)} = {shown(item['input'])}: {_allowed(item)}")
    return problems


def _allowed(item: Any) -> str:
    """pydantic's message, with the nearest choice where the value is one of several words."""
    message = str(item["msg"]).replace("Input should", "must")
    if item["type"] == "literal_error":
        choices = [word.strip("'") for word in str(item["ctx"]["expected"]).replace(" or ", ", ").split(", ")]
        return message + did_you_mean(str(item["input"]), choices)
    return message
