"""Help texts: every option has one, and a flag does not look as if it took a value."""

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from tui_lab.cli.main import app

OF_TYPER = {"help", "install_completion", "show_completion"}


def parameters_of(command: Any, name: str) -> Iterator[Any]:
    """Yield (id, parameter) of a command and all its subcommands, without typer's own options."""
    for parameter in command.params:
        if parameter.name not in OF_TYPER:
            yield pytest.param(parameter, id=f"{name} {parameter.name}")
    for subcommand in getattr(command, "commands", {}).values():
        yield from parameters_of(subcommand, f"{name} {subcommand.name}")


PARAMETERS = list(parameters_of(get_command(app), "tui-lab"))


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_every_argument_and_option_has_a_help_text(parameter: Any) -> None:
    assert parameter.help


@pytest.mark.parametrize("parameter", PARAMETERS)
def test_usage_has_single_brackets(parameter: Any) -> None:
    assert not (parameter.metavar or "").startswith("[")


@pytest.mark.parametrize("flag", [p for p in PARAMETERS if getattr(p.values[0], "is_flag", False)])
def test_flags_show_no_value_type(flag: Any) -> None:
    assert flag.metavar == ""
