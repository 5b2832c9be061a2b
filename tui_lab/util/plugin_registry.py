"""Plug-ins: tasks, tokenizers, checks and watchers that other packages add by entry points.

Nothing of a plug-in is imported before it is needed. TUI_LAB_PLUGINS=off hides all of them.
"""

import functools
import os
import re
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, get_args

from tui_lab.util.errors import DataError
from tui_lab.util.escape import printable

Kind = Literal["tasks", "tokenizers", "checks", "watchers"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SWITCH = "TUI_LAB_PLUGINS"
NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
"""What a plug-in may be called."""


class PluginError(DataError):
    """A plug-in that cannot be used. The message names its package."""


@dataclass(frozen=True)
class Plugin:
    """One entry point. package: the distribution that has it; target: MODULE:OBJECT."""

    kind: Kind
    name: str
    package: str
    version: str
    target: str
    _entry: EntryPoint = field(repr=False, compare=False)

    @property
    def origin(self) -> str:
        """The package with its version, for messages."""
        return printable(f"{self.package} {self.version}")

    def load(self) -> Any:
        """Import the object. Raises PluginError."""
        try:
            return self._entry.load()
        except (Exception, SystemExit) as error:
            raise self.error(f"{self.target} cannot be imported", error) from error

    def error(self, message: str, cause: BaseException | None = None) -> PluginError:
        """Return an error that names the plug-in and its package. cause: the exception behind it."""
        reason = "" if cause is None else f": {type(cause).__name__}: {printable(str(cause))}"
        return PluginError.of("user_code", f"{message}{reason} (a plug-in of {self.origin})", key=self.label)

    @property
    def label(self) -> str:
        """What it is, for messages: `task sums`."""
        return f"{self.kind.removesuffix('s')} {printable(self.name)}"


def installed(kind: Kind) -> tuple[Plugin, ...]:
    """Return the plug-ins of a kind by name, including invalid and duplicate names."""
    if os.environ.get(SWITCH) == "off":
        return ()
    return tuple(plugin for plugin in _all() if plugin.kind == kind)


def names(kind: Kind) -> list[str]:
    """Return the names of the plug-ins of a kind."""
    return sorted({plugin.name for plugin in installed(kind)})


def one_of_each_name(kind: Kind) -> list[Plugin]:
    """Return a plug-in for each name of a kind, ordered by name; `conflict` says where several have it."""
    return list({plugin.name: plugin for plugin in installed(kind)}.values())


def find(kind: Kind, name: str) -> Plugin | None:
    """Return the plug-in of this name; None if there is none. Raises PluginError if two packages have one."""
    plugins = [plugin for plugin in installed(kind) if plugin.name == name]
    if not plugins:
        return None
    if problem := conflict(plugins[0]):
        raise PluginError.of("conflict", problem, key=plugins[0].label)
    return plugins[0]


def conflict(plugin: Plugin, built_in: tuple[str, ...] = ()) -> str:
    """Return why the name of a plug-in cannot be used; "" if it can. built_in: the names that tui-lab itself has."""
    if not re.fullmatch(NAME, plugin.name):
        return f"not a name for a plug-in of {plugin.origin}; allowed: letters, digits, - and _"
    origins = [other.origin for other in installed(plugin.kind) if other.name == plugin.name]
    if plugin.name in built_in:
        origins.insert(0, "tui-lab itself")
    return f"the same name in {' and '.join(origins)}; uninstall all but one" if len(origins) > 1 else ""


@functools.cache
def _all() -> tuple[Plugin, ...]:
    """Read the entry points of all installed packages: some 20 ms, once a process."""
    plugins = [
        Plugin(kind, entry.name, *_package(entry), entry.value, entry)
        for kind in KINDS
        for entry in entry_points(group=f"tui_lab.{kind}")
    ]
    return tuple(sorted(plugins, key=lambda plugin: (plugin.kind, plugin.name, plugin.package)))


def _package(entry: EntryPoint) -> tuple[str, str]:
    """Return the name and the version of the package that has an entry point, as far as its metadata has them."""
    if entry.dist is None:
        return "an unknown package", ""
    metadata = entry.dist.metadata
    return metadata["Name"] or "an unknown package", metadata["Version"] or ""


def forget() -> None:
    """Read the entry points again at the next question: after a package was installed."""
    _all.cache_clear()
