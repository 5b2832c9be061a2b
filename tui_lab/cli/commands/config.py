"""`tui-lab config`."""

import typer

from tui_lab.cli.options import Json, Sets, Source

commands = typer.Typer(name="config", help="Show or validate settings.", no_args_is_help=True)


@commands.command("show")
def show(source: Source, sets: Sets = None, json: Json = False) -> None:
    """Show all settings, and the parameter count by symbol."""
    from tui_lab.cli.show import show_config

    show_config(source, sets or [], as_json=json)


@commands.command("schema")
def schema() -> None:
    """Print the JSON schema of a config file."""
    from tui_lab.cli.show import show_schema

    show_schema()


@commands.command("validate")
def validate(source: Source, sets: Sets = None) -> None:
    """Check a config by itself and against its data; exit 2 and list every problem if it is invalid."""
    from tui_lab.cli.show import validate as validate_config

    validate_config(source, sets or [])
