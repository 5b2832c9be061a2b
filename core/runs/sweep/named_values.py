"""Find the value that a name of --over or --set means, among what a script and its modules assign."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tui_lab.core.user_code.assigned_values import Assigned, AssignedValue, assigned_values
from tui_lab.core.user_code.imported_modules import imported_modules
from tui_lab.util.errors import ConfigError

MOST_LISTED = 6
"""Lines and names that an error lists."""


@dataclass(frozen=True)
class NamedValue:
    """What one line assigns. name: its whole name, which begins with that of the module. file: of the module, resolved;
    None for the script. key: in its file.
    """

    name: str
    file: Path | None
    key: str
    own: AssignedValue


@dataclass(frozen=True)
class _File:
    """A file and what it assigns. module: its name; "" for the script."""

    module: str
    path: Path
    assigned: Assigned

    def name(self, key: str) -> str:
        return f"{self.module}.{key}" if self.module else key


_Match = tuple[_File, str]
"""A file and a key in it."""


class NamedValues:
    """The values of a script, by NAME, and of its modules, by MODULE.NAME."""

    def __init__(self, script: Path, folders: Sequence[Path], package: str = "") -> None:
        """Raises OSError if the script cannot be read. folders, package: as for `imported_modules`."""
        self._script = _File("", script, assigned_values(script))
        self._folders = folders
        self._package = package

    @property
    def names(self) -> list[str]:
        """The names of the script's own values, those of its functions last."""
        own = self._script.assigned
        return sorted(own.values, key=lambda key: key in own.in_functions)

    @cached_property
    def all_names(self) -> list[str]:
        """The names of all values."""
        return [file.name(key) for file in self._files for key in file.assigned.values]

    def find(self, name: str, option: str) -> NamedValue | None:
        """Return the value that has a name, or whose name ends with it; None if no line assigns one.

        Raises ConfigError if several lines do, or if the line computes the value.
        """
        matches = self._exact(name) or self._endings(name)
        if not matches:
            return None
        [(file, key), *others] = matches
        own = file.assigned.values.get(key)
        if others or own is None:
            raise _not_one_line(name, option, matches)
        return NamedValue(file.name(key), None if file is self._script else file.path, key, own)

    def _exact(self, name: str) -> list[_Match]:
        """Return where a value has this name. A module is needed only for a name with a point."""
        is_in_script = "." not in name and name in self._script.assigned.lines
        files = [self._script] if is_in_script else self._files
        return [(file, key) for file in files for key in file.assigned.lines if file.name(key) == name]

    def _endings(self, name: str) -> list[_Match]:
        """Return where a value has a name that ends with this one: in a function only if it is nowhere else.

        What one line computes is left out if there is anything else: `Adam(lr=config.lr)` beside `config.lr = 1`.
        """
        ending = f".{name}"
        matches = [
            (file, key) for file in self._files for key in file.assigned.lines if file.name(key).endswith(ending)
        ]
        outside = [(file, key) for file, key in matches if key not in file.assigned.in_functions] or matches
        return [match for match in outside if not _is_computed(*match)] or outside

    @cached_property
    def _files(self) -> list[_File]:
        modules = imported_modules(self._script.path, self._folders, self._package)
        by_path = {path: name for name, path in reversed(modules.items())}  # A file may have several names.
        files = [self._script]
        for path, name in reversed(by_path.items()):
            try:
                files.append(_File(name, path, assigned_values(path, is_script=False)))
            except OSError:
                continue
        return files


def _is_computed(file: _File, key: str) -> bool:
    """Return whether one line assigns a key, and not a constant."""
    return key not in file.assigned.values and len(file.assigned.lines[key]) == 1


def _not_one_line(name: str, option: str, matches: Sequence[_Match]) -> ConfigError:
    """Return the error of a name that stands for several lines, for several values, or for a computed one."""
    places = [
        f"{file.name(key)} ({file.path.name}:{line})" for file, key in matches for line in file.assigned.lines[key]
    ]
    other_way = f"--{name}=… if that is an option of the script"
    lines = ", ".join(places[:MOST_LISTED]) + (", …" if len(places) > MOST_LISTED else "")
    if len(places) > 1:
        is_clear = len({file.name(key) for file, key in matches}) == len(matches) > 1
        message = f"several lines assign it: {lines}{'; use a longer name' if is_clear else ''}"
        return ConfigError.of("conflict", message, key=option, value=name, allowed=other_way)
    [(file, whole)] = matches
    parts = [file.name(key) for key in file.assigned.values if key.startswith(f"{whole}.")]
    if parts:
        message = f"it has several values: {lines}; name one of them"
        return ConfigError.of("invalid", message, key=option, value=name, allowed=", ".join(parts[:MOST_LISTED]))
    message = f"it is not a constant there: {lines}; only a constant can be replaced"
    return ConfigError.of("invalid", message, key=option, value=name, allowed=other_way)
