"""Watchers of plug-ins: they see every event of a run, live or replayed, and give hints."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from tui_lab.core import events as ev
from tui_lab.core.doctor.findings import Finding, FindingCode
from tui_lab.core.doctor.plugin_findings import named
from tui_lab.util import plugin_registry
from tui_lab.util.errors import LabError
from tui_lab.util.plugin_registry import Plugin


class Watcher(Protocol):
    """What the entry point of a watcher makes when it is called without arguments, once for each run."""

    def update(self, event: ev.Event) -> Iterable[Finding] | None:
        """Take the next event, and return new hints. An event may come again: in a replay, or in a report."""
        ...


MakeWatcher = Callable[[], Watcher]


@dataclass
class PluginWatchers:
    """The watchers of one run. One that raises is off from then on, and a hint says so."""

    _watchers: list[tuple[Plugin, Any]] | None = field(default=None, repr=False)

    def update(self, event: ev.Event) -> Iterator[Finding]:
        """Yield what the watchers say to an event. They are imported at the first one."""
        if self._watchers is None:
            self._watchers = []
            yield from self._start()
        for plugin, watcher in tuple(self._watchers):
            try:
                yield from [named(plugin, hint, "hint") for hint in watcher.update(event) or ()]
            except Exception as error:
                self._watchers.remove((plugin, watcher))
                yield _failed(plugin, error)

    def _start(self) -> Iterator[Finding]:
        assert self._watchers is not None
        for plugin in plugin_registry.one_of_each_name("watchers"):
            try:
                if problem := plugin_registry.conflict(plugin):
                    raise plugin.error(problem)
                self._watchers.append((plugin, plugin.load()()))
            except Exception as error:
                yield _failed(plugin, error)


def _failed(plugin: Plugin, error: Exception) -> Finding:
    reason = str(error) if isinstance(error, LabError) else str(plugin.error("it raised", error))
    return Finding(
        code=cast(FindingCode, f"{plugin.name}/failed"),
        title=f"The {plugin.label} of {plugin.origin} failed, and is off.",
        evidence=reason,
        why="What it would notice in this run is not noticed.",
        fix=f"Update or uninstall {plugin.package}.",
        kind="hint",
    )
