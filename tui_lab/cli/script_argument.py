"""A script, or a module, with its arguments on the command line of a command that takes other things as well."""

from collections.abc import Sequence
from pathlib import Path

from tui_lab.cli.usage_hints import is_script
from tui_lab.cli.watch import check
from tui_lab.core.watch.process.script_process import Target
from tui_lab.util.errors import ConfigError


def script_of(command: str, source: str | None, arguments: Sequence[str], module: str | None) -> Target | None:
    """Return the script that the command line names; None if it names something else. Raises ConfigError.

    command: of tui-lab, for the error.
    """
    if module is not None:
        words = arguments if source is None else (source, *arguments)
        target = Target(module, tuple(words), is_module=True)
    elif source is not None and is_script(source):
        target = Target(source, tuple(arguments))
    elif arguments:
        raise ConfigError.of(
            "conflict",
            "only a SCRIPT.py has arguments",
            key=command,
            value=" ".join(arguments),
            suggestion=script_named(source),
        )
    else:
        return None
    check(target)
    return target


def script_named(source: str | None) -> str:
    """Return the script that `source` names without its ending, or ""."""
    return f"{source}.py" if source is not None and Path(f"{source}.py").is_file() else ""
