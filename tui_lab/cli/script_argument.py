"""A script, or a module, with its arguments on the command line of a command that takes other things as well."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tui_lab.cli.usage_hints import is_script
from tui_lab.cli.watch_target import check
from tui_lab.core.config import settings
from tui_lab.core.config.script import ScriptConfig
from tui_lab.core.runs import folder as runs
from tui_lab.core.watch.process.recorded_script import ScriptToRun, recorded_script
from tui_lab.core.watch.process.script_process import Target
from tui_lab.util.errors import ConfigError, LabError


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


def script_to_run(command: str, source: str | None, arguments: Sequence[str], module: str | None) -> ScriptToRun | None:
    """Return the script that the command line names, or that of a run; None if it names a preset, config or other run.

    command: of tui-lab, for the error. Raises ConfigError.
    """
    target = script_of(command, source, arguments, module)
    if target is not None:
        return ScriptToRun(target)
    if source is None:
        raise ConfigError.of("missing", "name a PRESET, CONFIG, RUN or SCRIPT.py", key=command)
    return script_of_run(source)


def refuse_for_script(options: Mapping[str, bool]) -> None:
    """Raise ConfigError for the first option that a script does not have. options: whether each is given."""
    for option, is_given in options.items():
        if is_given:
            raise ConfigError.of("conflict", "needs a preset or config: a script has no settings", key=option)


def script_named(source: str | None) -> str:
    """Return the script that `source` names without its ending, or ""."""
    return f"{source}.py" if source is not None and Path(f"{source}.py").is_file() else ""


@contextmanager
def script_suggested(source: str) -> Iterator[None]:
    """Turn a LabError about `source` into one that names the script that may be meant, if there is one."""
    try:
        yield
    except LabError as error:
        if not (script := script_named(source)):
            raise
        message = "not a preset, config file or run"
        raise ConfigError.of("unknown_name", message, value=source, suggestion=script) from error


def script_of_run(source: str) -> ScriptToRun | None:
    """Return the script of the run `source`; None if it is anything else. Raises ConfigError."""
    if source in settings.presets() or settings.is_file(Path(source)):
        return None
    try:
        config = runs.find(source).config()
    except LabError:
        return None
    return recorded_script(config) if isinstance(config, ScriptConfig) else None
