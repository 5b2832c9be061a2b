"""Help texts: every option has one, and a flag does not look as if it took a value."""

from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from tui_lab.cli.main import app

OF_TYPER = {"help", "install_completion", "show_completion"}


def parameters_of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield (name, parameter) of a command and all its subcommands, without typer's own options."""
    for parameter in command.params:
        if parameter.name not in OF_TYPER:
            yield f"{name} {parameter.name}", parameter
    for subcommand in getattr(command, "commands", {}).values():
        yield from parameters_of(subcommand, f"{name} {subcommand.name}")


PARAMETERS = dict(parameters_of(get_command(app), "tui-lab"))


def test_every_argument_and_option_has_a_help_text() -> None:
    assert len(PARAMETERS) > 200
    assert [name for name, parameter in PARAMETERS.items() if not parameter.help] == []


def test_usage_has_single_brackets() -> None:
    assert [name for name, parameter in PARAMETERS.items() if (parameter.metavar or "").startswith("[")] == []


def test_flags_show_no_value_type() -> None:
    flags = {name: parameter for name, parameter in PARAMETERS.items() if getattr(parameter, "is_flag", False)}
    assert len(flags) > 60
    assert [name for name, flag in flags.items() if flag.metavar != ""] == []
