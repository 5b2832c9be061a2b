"""Read the values that a sweep gives to a script: those of --over and --set."""

import ast
import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tui_lab.core.config import settings
from tui_lab.core.runs.seed_groups import SEED
from tui_lab.core.runs.sweep import search_space
from tui_lab.core.runs.sweep.script_trials import FOLDER, ScriptTrials, is_option, is_placed
from tui_lab.core.runs.sweep.search_space import Axis
from tui_lab.core.user_code.assigned_values import Assigned, assigned_values
from tui_lab.util.errors import ConfigError, nearest

_PLACE = re.compile(r"\{([\w.]+)\}")
_KINDS = {float: "a number", bool: "true or false", list: "a list", dict: "a table"}
SIMILAR = 0.8
"""From which ratio of difflib on a name in braces is a typing error; other braces may be part of an argument."""
MOST_NAMES = 12
"""Names of assigned values that an error lists."""


class ScriptValues:
    """The values that a script can be given: options, names in its arguments, and what it assigns at its top level."""

    def __init__(self, script: ScriptTrials) -> None:
        """Raises ConfigError if the script cannot be read."""
        self._script = script
        self._path = _file_of(script)
        self._own = self._assigned()

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
        self._check_key(key, "--over")
        if self.is_assigned(key):
            return _assigned_axis(key, parts, self._own[key].value)
        return search_space.script_axis(key, parts)

    def fixed(self, text: str) -> tuple[str, Any]:
        """Parse KEY=VALUE. Raises ConfigError."""
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise ConfigError.of("invalid", "must be KEY=VALUE, as in --lr=0.01", key="--set", value=text)
        self._check_key(key, "--set")
        return key, _like(self._own[key].value, key, value) if self.is_assigned(key) else value

    def is_assigned(self, key: str) -> bool:
        """Return whether a key stands for what the script assigns."""
        return not is_option(key) and not is_placed(key, self._script.arguments)

    @property
    def missing(self) -> list[str]:
        """The keys of the plan that the script does not assign any more, since it was changed."""
        return [key for key in self._script.assigned if key not in self._own]

    def _assigned(self) -> Assigned:
        try:
            return assigned_values(self._path)
        except FileNotFoundError:  # A module of a library.
            return {}
        except OSError as error:
            raise ConfigError.of("unreadable", str(error.strerror), value=str(self._path)) from error

    def _check_key(self, key: str, option: str) -> None:
        """Raise ConfigError for a key that is neither an option, nor in the arguments, nor assigned."""
        if key in (FOLDER, SEED):
            raise ConfigError.of("invalid", "this name has another meaning; use another one", key=option, value=key)
        if not self.is_assigned(key) or key in self._own:
            return
        names = list(self._own)
        listed = ", ".join(names[:MOST_NAMES]) + (", …" if len(names) > MOST_NAMES else "")
        assigned = f", or what {self._script.script} assigns once at its top level" + (f": {listed}" if names else "")
        raise ConfigError.of(
            "unknown_name",
            "this script has no such value",
            key=option,
            value=key,
            allowed=f"--{key}=… for an option of the script, {{{key}}} in its arguments after --{assigned}",
            suggestion=f"--{key}" if self._has_option(f"--{key}") else nearest(key, names),
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
        return search_space.range_axis(key, parts, is_whole=isinstance(own, int))
    return search_space.choice_axis(key, [_like(own, key, part) for part in parts])


def _like(own: Any, key: str, text: str) -> Any:
    """Return the value of `text`. Raises ConfigError if the script's own is of another kind."""
    value = _parsed(text)
    if own is None or value is None or _kind(own) == _kind(value):
        return value
    if isinstance(own, str):
        return text.strip()
    message = f"must be {_KINDS.get(_kind(own), 'of its type')}, as {own!r} in the script"
    raise ConfigError.of("wrong_type", message, key=key, value=text.strip())


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
