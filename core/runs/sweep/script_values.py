"""Read the values that a sweep gives to a script: those of --over and --set."""

import ast
import difflib
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.sweep import search_space
from tui_lab.core.runs.sweep.named_values import NamedValue, NamedValues
from tui_lab.core.runs.sweep.script_trials import FOLDER, ScriptTrials, is_option, is_placed
from tui_lab.core.runs.sweep.search_space import Axis
from tui_lab.util.errors import ConfigError, nearest

_PLACE = re.compile(r"\{([\w.]+)\}")
_KINDS = {float: "a number", bool: "true or false", list: "a list", dict: "a table"}
SIMILAR = 0.8
"""From which ratio of difflib on a name in braces is a typing error; other braces may be part of an argument."""
MOST_NAMES = 12
"""Names of assigned values that an error lists."""


class ScriptValues:
    """The values that a script can be given: options, names in its arguments, and what it or its modules assign."""

    def __init__(self, script: ScriptTrials) -> None:
        """Raises ConfigError if the script cannot be read."""
        self._script = script
        self._path = _file_of(script)
        self._own = self._named_values()

    def check_arguments(self, keys: Sequence[str]) -> None:
        """Raise ConfigError for a `{NAME}` in the arguments that is nearly one of the keys."""
        names = [FOLDER, *keys]
        for argument in self._script.arguments:
            for name in _PLACE.findall(argument):
                similar = difflib.get_close_matches(name, names, 1, SIMILAR)
                if name not in names and similar:
                    message = "no value has this name"
                    raise ConfigError.of("unknown_name", message, value=f"{{{name}}}", suggestion=f"{{{similar[0]}}}")

    def axis(self, text: str) -> Axis:
        """Parse KEY=V1,V2,… or KEY=LOW..HIGH[:log]. Raises ConfigError."""
        key, parts = search_space.key_and_values(text, example="--lr=0.01,0.001")
        named = self._find(key, "--over")
        return (
            search_space.script_axis(key, parts)
            if named is None
            else _assigned_axis(named.name, parts, named.own.value)
        )

    def fixed(self, text: str) -> tuple[str, Any]:
        """Parse KEY=VALUE. Raises ConfigError."""
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise ConfigError.of("invalid", "must be KEY=VALUE, as in --lr=0.01", key="--set", value=text)
        named = self._find(key, "--set")
        return (key, value) if named is None else (named.name, _like(named.own.value, named.name, value))

    def is_assigned(self, key: str) -> bool:
        """Return whether a key stands for what the script assigns."""
        return not is_option(key) and not is_placed(key, self._script.arguments)

    @property
    def missing(self) -> list[str]:
        """The keys of the plan that no line assigns any more, since the script or a module was changed."""
        return [key for key in self._script.assigned if self._still_assigned(key) is None]

    def replacements(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        """Return what replaces these values, as `tui_lab.cli.watch_trial` takes it. values: as Python writes them."""
        named = {key: self._still_assigned(key) for key in values}
        return [
            {"name": key, "file": str(one.file or ""), "key": one.key, "value": values[key]}
            for key, one in named.items()
            if one is not None
        ]

    def _still_assigned(self, key: str) -> NamedValue | None:
        try:
            return None if self._own is None else self._own.find(key, "--over")
        except ConfigError:
            return None

    def _named_values(self) -> NamedValues | None:
        """Return what the script and its modules assign; None for a module of a library."""
        script = self._script
        current = Path(script.folder)
        first = current if script.is_module else self._path.resolve().parent
        others = [Path(entry) for entry in (script.python_path or "").split(os.pathsep) if entry]
        folders = [first, *(current / entry for entry in others), current]  # The last one for a script that adds it.
        package = script.script if self._path.name == "__main__.py" else script.script.rpartition(".")[0]
        try:
            return NamedValues(self._path, folders, package if script.is_module else "")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ConfigError.of("unreadable", str(error.strerror), value=str(self._path)) from error

    def _find(self, key: str, option: str) -> NamedValue | None:
        """Return the assigned value that a key means; None for an option, or a name in the arguments.

        Raises ConfigError for a key that is none of these.
        """
        if key in (FOLDER, SEED):
            raise ConfigError.of("invalid", "this name has another meaning; use another one", key=option, value=key)
        if not self.is_assigned(key):
            return None
        named = None if self._own is None else self._own.find(key, option)
        if named is None:
            raise self._unknown(key, option)
        return named

    def _unknown(self, key: str, option: str) -> ConfigError:
        names = [] if self._own is None else self._own.names
        listed = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
        assigned = f"what {self._script.script} or a module that it imports assigns once"
        all_names = [] if self._own is None else self._own.all_names
        return ConfigError.of(
            "unknown_name",
            "this script has no such value",
            key=option,
            value=key,
            allowed=f"--{key}=… for an option of the script, {{{key}}} in its arguments after --, or {assigned}"
            + (f": {listed}" if names else ""),
            suggestion=f"--{key}" if self._has_option(f"--{key}") else nearest(key, all_names),
        )

    def _has_option(self, option: str) -> bool:
        """Return whether the text of the script has an option in quotes."""
        try:
            text = self._path.read_text("utf-8", "replace")
        except OSError:
            return False
        return f'"{option}"' in text or f"'{option}'" in text


def _file_of(script: ScriptTrials) -> Path:
    """Return the file that Python runs; it may not exist for a module that is not in the script's folder."""
    if not script.is_module:
        return Path(script.folder, script.script)
    path = Path(script.folder, *script.script.split("."))
    return path / "__main__.py" if path.is_dir() else path.with_suffix(".py")


def _assigned_axis(key: str, parts: str | list[str], own: Any) -> Axis:
    """Return the axis of a value that the script assigns as `own`. Raises ConfigError for another type."""
    if isinstance(parts, str):
        if isinstance(own, bool) or not isinstance(own, int | float):
            raise ConfigError.of("wrong_type", "only a number has a range; list its values", key=key, value=parts)
        if _may_be_a_rate(own):
            if parts.strip() == "0..1":  # Both whole numbers would be listed, as 0,1.
                return search_space.range_axis(key, parts, is_whole=False)
            return search_space.script_axis(key, parts)
        return search_space.range_axis(key, parts, is_whole=isinstance(own, int))
    return search_space.choice_axis(key, [_like(own, key, part) for part in parts])


def _like(own: Any, key: str, text: str) -> Any:
    """Return the value of `text`. Raises ConfigError if the script's own is of another kind."""
    value = _parsed(text)
    if type(own) is int and type(value) is float and not _may_be_a_rate(own):
        message = (
            f"must be a whole number (int), as {own!r} in the script; with {float(own)!r} there it takes a fraction"
        )
        raise ConfigError.of("wrong_type", message, key=key, value=text.strip())
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError.of("invalid", "must be finite", key=key, value=text.strip())
    if own is None or value is None or _kind(own) == _kind(value):
        return value
    if isinstance(own, str):
        return text.strip()
    message = f"must be {_KINDS.get(_kind(own), 'of its type')}, as {own!r} in the script"
    raise ConfigError.of("wrong_type", message, key=key, value=text.strip())


def _may_be_a_rate(own: Any) -> bool:
    """Return whether a whole number may stand for one with a fraction, as in `dropout = 0` or `grad_clip = 1`."""
    return type(own) is int and abs(own) <= 1


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
