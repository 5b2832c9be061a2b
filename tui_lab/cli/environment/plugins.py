"""The installed plug-ins, each with its package and whether it can be used."""

from tui_lab.cli.environment.section import Figure, Missing, Section
from tui_lab.core.config.schema import TASKS, TOKENIZERS
from tui_lab.util import plugin_registry
from tui_lab.util.plugin_registry import Kind, Plugin, PluginError


def section() -> Section:
    """Import every plug-in, and return what became of each."""
    figures: dict[str, Figure] = {}
    missing = []
    for kind in plugin_registry.KINDS:
        for plugin in plugin_registry.installed(kind):
            problem = _problem(plugin)
            label = plugin.label
            if label in figures:  # Of another package.
                label = f"{label} of {plugin.package}"
            figures[label] = f"{plugin.origin}, {'does not work' if problem else 'works'}"
            if problem:
                missing.append(Missing(label, problem, f"Update or uninstall {plugin.package}."))
    return Section("plug-ins", figures or {"installed": "none"}, tuple(missing))


def _problem(plugin: Plugin) -> str:
    """Return why a plug-in cannot be used; "" if it can."""
    if problem := plugin_registry.conflict(plugin, _own_names(plugin.kind)):
        return problem
    try:
        plugin.load()
    except PluginError as error:
        return str(error)
    return ""


def _own_names(kind: Kind) -> tuple[str, ...]:
    """Return the names that tui-lab itself has, which plug-ins must not have."""
    if kind == "tasks":
        return TASKS
    if kind == "tokenizers":
        return (*TOKENIZERS, "table", "ids", "seen")
    if kind == "checks":
        try:
            from tui_lab.core.doctor.checks.registry import CHECKS
        except ImportError:  # torch, whose own line says why.
            return ()
        return tuple(check.name for check in CHECKS)
    return ()
